import { pipeline } from "node:stream/promises";
import type { ExecRequest } from "@skep/api";
import type { Context } from "./context.ts";
import { type ExecChannel, openExec } from "./exec-channel.ts";
import { terminalSize, withRawTerminal } from "./terminal.ts";

/** The status after Ctrl-C, as shells have it. */
const interrupted = 130;
const silenceMs = 2000;

/** Waits for a guest that still boots; false when Ctrl-C ended the wait. */
async function hasStarted(context: Context, name: string, channel: ExecChannel): Promise<boolean> {
  const slow = setTimeout(() => context.note(`waiting for ${name} to answer`), silenceMs);
  const left = Promise.withResolvers<false>();
  const leave = () => {
    channel.close();
    left.resolve(false); // skepd may be slow to take leave
  };
  process.once("SIGINT", leave);
  try {
    return await Promise.race([channel.started.then(() => true), left.promise]);
  } finally {
    clearTimeout(slow);
    process.off("SIGINT", leave);
  }
}

/** Runs a command with the user's own streams; resolves with its status. */
export async function runRemote(
  context: Context,
  name: string,
  request: Omit<ExecRequest, "tty" | "stdinTaken">,
  tty: boolean,
): Promise<number> {
  const client = await context.client();
  const channel = await openExec(client, name, { ...request, ...(tty ? { tty: terminalSize() } : {}) });
  if (!(await hasStarted(context, name, channel))) return interrupted;
  const onResize = () => {
    const { columns, rows } = terminalSize();
    channel.resize(columns, rows);
  };
  let interrupts = 0;
  const onInterrupt = () => {
    interrupts += 1;
    if (interrupts > 2) channel.close();
    else channel.signal("INT");
  };
  const onTerminate = () => channel.signal("TERM");
  const work = async () => {
    process.stdin.on("error", () => channel.stdin.end());
    process.stdin.pipe(channel.stdin);
    const printed = Promise.all([
      pipeline(channel.stdout, process.stdout, { end: false }),
      pipeline(channel.stderr, process.stderr, { end: false }),
    ]);
    printed.catch(() => channel.close());
    const status = await channel.exit;
    await printed;
    return status;
  };
  process.stdout.on("resize", onResize);
  process.on("SIGINT", onInterrupt);
  if (!tty) process.on("SIGTERM", onTerminate);
  try {
    return tty ? await withRawTerminal(work) : await work();
  } finally {
    process.stdout.off("resize", onResize);
    process.off("SIGINT", onInterrupt).off("SIGTERM", onTerminate);
    process.stdin.unpipe(channel.stdin).pause();
    channel.close();
  }
}

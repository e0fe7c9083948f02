import type { RawData, WebSocket } from "ws";
import type { Context } from "./context.ts";
import { fail } from "./errors.ts";
import { printable, styleFor } from "./style.ts";
import { withRawTerminal } from "./terminal.ts";

export interface ConsoleOptions {
  mode: "watch" | "write" | "take";
  replayBytes: number;
  /** Without a terminal: how long it must be silent after the end of the input. */
  lingerMs: number;
}

const detachKey = 0x1d; // Ctrl-]

/** Joins the user's terminal, or pipe, with a machine's serial console, until either side ends it. */
export async function attachConsole(context: Context, name: string, options: ConsoleOptions): Promise<void> {
  const client = await context.client();
  const query = `mode=${options.mode}&replayBytes=${options.replayBytes}`;
  const socket = await client.socket(`/v1/machines/${encodeURIComponent(name)}/console?${query}`);
  const style = styleFor(process.stderr);
  const tty = process.stdin.isTTY === true;
  if (tty) context.note(style.dim(`console of ${name}; Ctrl-] detaches`));
  try {
    const reason = await withRawTerminal(() =>
      relay(socket, name, options, (text) => context.note(`${text}\r`)),
    );
    if (tty) process.stderr.write("\n");
    context.note(
      style.dim(
        reason === undefined ? `detached from ${name}` : `console of ${name} closed: ${printable(reason)}`,
      ),
    );
  } finally {
    socket.close();
    process.stdin.pause();
  }
}

/** Resolves with the server's reason for the end, or undefined when the user has detached. */
function relay(
  socket: WebSocket,
  name: string,
  options: ConsoleOptions,
  note: (text: string) => void,
): Promise<string | undefined> {
  const { stdin, stdout } = process;
  const tty = stdin.isTTY === true;
  return new Promise((resolve, reject) => {
    let inputEnded = false;
    let silence: NodeJS.Timeout | undefined;
    const awaitSilence = () => {
      clearTimeout(silence);
      if (inputEnded) silence = setTimeout(() => finish(undefined), options.lingerMs);
    };
    const onInput = (chunk: Buffer) => {
      const key = tty ? chunk.indexOf(detachKey) : -1;
      const typed = key < 0 ? chunk : chunk.subarray(0, key);
      if (typed.length > 0 && options.mode !== "watch") {
        stdin.pause();
        socket.send(typed, () => stdin.resume());
      }
      if (key >= 0) finish(undefined);
    };
    const onInputEnd = () => {
      inputEnded = options.mode !== "watch";
      awaitSilence();
    };
    const onInterrupt = () => finish(undefined);
    const stop = () => {
      clearTimeout(silence);
      stdin.off("data", onInput).off("end", onInputEnd);
      process.off("SIGINT", onInterrupt);
    };
    const finish = (reason: string | undefined) => {
      stop();
      resolve(reason);
    };
    socket.on("message", (data: RawData, isBinary: boolean) => {
      if (isBinary) {
        awaitSilence();
        if (stdout.write(data as Buffer)) return;
        socket.pause();
        stdout.once("drain", () => socket.resume());
        return;
      }
      const message = readMessage(String(data));
      if (typeof message.end === "string") finish(message.end);
      if (message.writable === false && options.mode !== "watch")
        note("someone else types; watching only (--take takes over)");
    });
    socket.on("error", () => {}); // "close" follows
    socket.on("close", (_code, reason) => {
      stop();
      const why = reason.toString();
      reject(fail("CONNECTION_LOST", { name, why: why === "" ? "" : `: ${printable(why)}` }));
    });
    process.on("SIGINT", onInterrupt);
    stdin.on("data", onInput).on("end", onInputEnd);
  });
}

function readMessage(text: string): { writable?: unknown; end?: unknown } {
  try {
    return (JSON.parse(text) ?? {}) as { writable?: unknown; end?: unknown };
  } catch {
    return {};
  }
}

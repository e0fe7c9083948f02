import type { RawData, WebSocket } from "ws";
import type { Context } from "./context.ts";
import { fail } from "./errors.ts";
import { printable, styleFor } from "./style.ts";
import { withRawTerminal } from "./terminal.ts";

export interface ConsoleOptions {
  mode: "watch" | "write" | "take";
  replayBytes: number;
  /** Without a terminal: how long it must be silent after the end of the input; null: it stays. */
  lingerMs: number | null;
  /** Ctrl-C ends it instead of going to the guest; what it does then. */
  interrupt?: string;
}

/** How it ended: by the user's keys, or from the other side. */
export type ConsoleEnd = { by: "detach" | "interrupt" } | { by: "machine"; reason: string };

const keys: Record<number, "detach" | "interrupt"> = { 29: "detach", 3: "interrupt" }; // Ctrl-], Ctrl-C

/** Joins the user's terminal, or pipe, with a machine's serial console, until either side ends it. */
export async function attachConsole(
  context: Context,
  name: string,
  options: ConsoleOptions,
): Promise<ConsoleEnd> {
  const client = await context.client();
  const query = `mode=${options.mode}&replayBytes=${options.replayBytes}`;
  const socket = await client.socket(`/v1/machines/${encodeURIComponent(name)}/console?${query}`);
  const style = styleFor(process.stderr);
  const tty = process.stdin.isTTY === true;
  const { interrupt } = options;
  const ways = `${interrupt === undefined ? "" : `Ctrl-C ${interrupt}, `}Ctrl-] detaches`;
  if (tty) context.note(style.dim(`console of ${name}; ${ways}`));
  try {
    const end = await withRawTerminal(() =>
      relay(socket, name, options, (text) => context.note(`${text}\r`)),
    );
    if (tty) process.stderr.write("\n");
    if (end.by === "detach") context.note(style.dim(`detached from ${name}`));
    if (end.by === "machine") context.note(style.dim(`console of ${name} closed: ${printable(end.reason)}`));
    return end;
  } finally {
    socket.close();
    process.stdin.pause();
  }
}

function relay(
  socket: WebSocket,
  name: string,
  options: ConsoleOptions,
  note: (text: string) => void,
): Promise<ConsoleEnd> {
  const { stdin, stdout } = process;
  const tty = stdin.isTTY === true;
  return new Promise((resolve, reject) => {
    let inputEnded = false;
    let silence: NodeJS.Timeout | undefined;
    const detach = () => finish({ by: "detach" });
    const isOurs = (byte: number) =>
      keys[byte] === "detach" || (keys[byte] === "interrupt" && options.interrupt !== undefined);
    const awaitSilence = () => {
      clearTimeout(silence);
      if (inputEnded && options.lingerMs !== null) silence = setTimeout(detach, options.lingerMs);
    };
    const onInput = (chunk: Buffer) => {
      const key = tty ? chunk.findIndex(isOurs) : -1;
      const typed = key < 0 ? chunk : chunk.subarray(0, key);
      if (typed.length > 0 && options.mode !== "watch") {
        stdin.pause();
        socket.send(typed, () => stdin.resume());
      }
      if (key >= 0) finish({ by: keys[chunk[key] as number] as "detach" | "interrupt" });
    };
    const onInputEnd = () => {
      inputEnded = options.mode !== "watch";
      awaitSilence();
    };
    const onInterrupt = () => finish({ by: options.interrupt === undefined ? "detach" : "interrupt" });
    const stop = () => {
      clearTimeout(silence);
      stdin.off("data", onInput).off("end", onInputEnd);
      process.off("SIGINT", onInterrupt);
    };
    const finish = (end: ConsoleEnd) => {
      stop();
      resolve(end);
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
      if (typeof message.end === "string") finish({ by: "machine", reason: message.end });
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

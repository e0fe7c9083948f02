/** What a program in the guest may have switched on: colours, hidden cursor, mouse, pasting. */
const calm = "\x1b[0m\x1b[?25h\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1006l\x1b[?2004l";

/**
 * The user's terminal in raw mode while `work` runs; given back whatever happens: return, error, a
 * signal, or a crash. Where standard input is no terminal, `work` just runs.
 */
export async function withRawTerminal<T>(work: () => Promise<T>): Promise<T> {
  const { stdin, stdout } = process;
  if (!stdin.isTTY) return work();
  let restored = false;
  const restore = () => {
    if (restored) return;
    restored = true;
    stdin.setRawMode(false);
    if (stdout.isTTY) stdout.write(calm);
  };
  const leave = (signal: NodeJS.Signals) => {
    restore();
    process.exit(signal === "SIGHUP" ? 129 : 143);
  };
  process.once("exit", restore).on("SIGTERM", leave).on("SIGHUP", leave);
  stdin.setRawMode(true);
  try {
    return await work();
  } finally {
    restore();
    process.off("exit", restore).off("SIGTERM", leave).off("SIGHUP", leave);
    stdin.pause();
  }
}

/** The size of the user's terminal, and its name for TERM. */
export function terminalSize(): { columns: number; rows: number; term: string } {
  const { columns, rows } = process.stdout;
  return {
    columns: columns || 80,
    rows: rows || 24,
    term: (process.env.TERM || "xterm-256color").slice(0, 128),
  };
}

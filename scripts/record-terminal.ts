/**
 * Types lines into a real shell in tmux and draws what the terminal then shows as an SVG:
 * `record-terminal.ts OUTPUT.svg LINE…`. A line is typed when the prompt is back: the shell's, or that of a
 * program the line before has started (`skep shell web`, then `uname -a`, then `exit`). `skep` is this
 * checkout's. Options: `--columns N` (default 96), `--home DIRECTORY` (SKEP_HOME), `--minutes N` (patience a line).
 */
import { execFile } from "node:child_process";
import { mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs, promisify } from "node:util";
import { drawTerminal } from "./terminal-svg.ts";

const run = promisify(execFile);
const promptAtEnd = /(?:^|\s|[:~\]])[$#] ?$/;

interface Recording {
  lines: string[];
  columns: number;
  home: string | undefined;
  timeoutMs: number;
}

/** The whole screen with its history after all lines have run, with SGR colour sequences. */
async function record({ lines, columns, home, timeoutMs }: Recording): Promise<string> {
  const work = await mkdtemp("/tmp/skep-record-");
  const tmux = async (...args: string[]) =>
    (await run("tmux", ["-S", join(work, "tmux"), "-f", "/dev/null", ...args])).stdout;
  const screen = async (...args: string[]) => (await tmux("capture-pane", "-p", ...args)).trimEnd();
  const prompted = async (afterRow: number) => {
    for (const deadline = Date.now() + timeoutMs; Date.now() < deadline; await sleep(100)) {
      const text = await screen("-J", "-S", "-");
      const rows = text.split("\n");
      if (rows.length > afterRow && promptAtEnd.test(rows.at(-1)!)) return rows.length;
    }
    throw new Error(`no prompt came back; the terminal shows:\n${await screen()}`);
  };
  try {
    await symlink(resolve(import.meta.dirname, "../skep"), join(work, "skep"));
    const shell = [
      "env",
      `PATH=${work}:${process.env.PATH}`,
      "PS1=\\[\\e[1;32m\\]$\\[\\e[0m\\] ",
      "COLORTERM=truecolor",
      ...(home === undefined ? [] : [`SKEP_HOME=${resolve(home)}`]),
      "bash",
      "--noprofile",
      "--norc",
    ];
    await tmux("new-session", "-d", "-x", String(columns), "-y", "40", "-c", work, ...shell);
    await tmux("set-option", "-g", "history-limit", "5000");
    let row = await prompted(0);
    for (const line of lines) {
      await tmux("send-keys", "-l", line);
      await tmux("send-keys", "Enter");
      row = await prompted(row);
    }
    const rows = (await screen("-e", "-S", "-")).split("\n");
    return rows.slice(0, -1).join("\n"); // without the last prompt
  } finally {
    await tmux("kill-server").catch(() => undefined);
    await rm(work, { recursive: true, force: true });
  }
}

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    columns: { type: "string", default: "96" },
    home: { type: "string" },
    minutes: { type: "string", default: "10" },
  },
});
const [output, ...lines] = positionals;
if (output === undefined || lines.length === 0) {
  console.error("usage: record-terminal.ts [--columns N] [--home DIRECTORY] [--minutes N] OUTPUT.svg LINE…");
  process.exit(2);
}
const columns = Number(values.columns);
const timeoutMs = Number(values.minutes) * 60_000;
const screen = await record({ lines, columns, home: values.home, timeoutMs });
await writeFile(output, drawTerminal(screen, { columns, title: "skep" }));
console.log(screen);

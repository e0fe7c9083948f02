import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { eventually, type Installation, root } from "./support.ts";

/** `skep` in a terminal of its own, as a person sees it. */
export class Terminal implements AsyncDisposable {
  /** How skep ended. */
  readonly status: Promise<number | null>;
  readonly #skep: Installation;
  readonly #child: ChildProcessWithoutNullStreams;
  readonly #nameFile: string;
  #seen = "";

  constructor(
    skep: Installation,
    args: readonly string[],
    size = { columns: 80, rows: 24 },
    env: Record<string, string> = {},
  ) {
    this.#skep = skep;
    this.#nameFile = join(skep.home, `terminal-${process.hrtime.bigint()}`);
    const words = args.map((word) => `'${word}'`).join(" ");
    const command = `stty columns ${size.columns} rows ${size.rows}; tty >${this.#nameFile}; exec ./skep ${words}`;
    this.#child = spawn("script", ["-qefc", command, "/dev/null"], {
      cwd: root,
      env: { ...skep.environment, TERM: "xterm", SHELL: "/bin/sh", ...env },
    });
    this.#child.stdin.on("error", () => {}); // it may end before all is typed
    this.#child.stdout.setEncoding("utf8").on("data", (text: string) => {
      this.#seen += text;
    });
    this.status = new Promise((resolve) => this.#child.once("close", resolve));
  }

  type(text: string): void {
    this.#child.stdin.write(text);
  }

  shows(pattern: RegExp): boolean {
    return pattern.test(this.#seen);
  }

  async until(pattern: RegExp): Promise<void> {
    await eventually(
      () => this.shows(pattern),
      () => `the terminal never showed ${pattern}: ${this.#seen}`,
    );
  }

  async resize(columns: number, rows: number): Promise<void> {
    const name = (await readFile(this.#nameFile, "utf8")).trim();
    await this.#skep.command("stty", ["-F", name, "columns", String(columns), "rows", String(rows)]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.kill("SIGKILL");
    await this.status;
  }
}

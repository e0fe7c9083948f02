import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync } from "node:fs";
import { rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

export interface RunningDaemon {
  child: ChildProcess;
  /** Resolves with status and standard error at the end. */
  ended: Promise<{ status: number | null; stderr: string }>;
}

/** For tests: a home of its own, with as many daemons as one wants; all are gone afterwards. */
export class DaemonHome implements AsyncDisposable {
  readonly environment: NodeJS.ProcessEnv;
  readonly home: string;
  readonly #root = mkdtempSync(join(tmpdir(), "sk-"));
  readonly #main: string;
  readonly #started: RunningDaemon[] = [];

  /** `main`: the program. */
  constructor(main: string) {
    this.#main = main;
    this.home = join(this.#root, "home");
    this.environment = { ...process.env, SKEP_HOME: this.home, SKEP_RUNTIME_DIR: join(this.#root, "r") };
  }

  run(...args: string[]): RunningDaemon {
    const child = spawn(process.execPath, ["--conditions=skep-source", this.#main, ...args], {
      env: this.environment,
      stdio: ["ignore", "ignore", "pipe"],
    });
    let stderr = "";
    child.stderr?.setEncoding("utf8").on("data", (text: string) => {
      stderr += text;
    });
    const running = { child, ended: once(child, "close").then(([status]) => ({ status, stderr })) };
    this.#started.push(running);
    return running;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const { child, ended } of this.#started) {
      child.kill("SIGKILL");
      await ended;
    }
    await rm(this.#root, { recursive: true, force: true });
  }
}

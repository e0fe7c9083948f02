import assert from "node:assert/strict";
import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process";
import { once } from "node:events";
import { after, before, describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { eventually, Installation, root } from "./support.ts";

let skep: Installation;
before(async () => {
  skep = await Installation.make();
  await skep.skep(["new", "web", "--image", "tiny", "--memory", "128M", "--cpus", "1", "--telnet", "--wait"]);
});
after(() => skep[Symbol.asyncDispose]());

/** A person at a terminal: a shell on a pseudo-terminal, what was typed and what is seen. */
class Terminal implements AsyncDisposable {
  readonly #child: ChildProcessWithoutNullStreams;
  seen = "";

  constructor() {
    const environment = skep.environment;
    this.#child = spawn("script", ["-qefc", "sh", "/dev/null"], {
      cwd: root,
      env: { ...environment, TERM: "xterm", SHELL: "/bin/sh" },
    });
    this.#child.stdout.setEncoding("utf8").on("data", (text: string) => {
      this.seen += text;
    });
    this.type("PS1='rea''dy> '\n");
  }

  type(text: string): void {
    this.#child.stdin.write(text);
  }

  /** Waits until the pattern appears in what was printed since the last wait. */
  async sees(pattern: RegExp): Promise<string> {
    await eventually(
      () => pattern.test(this.seen),
      () => `${pattern} is not in: ${this.seen}`,
      60_000,
    );
    const seen = this.seen;
    this.seen = "";
    return seen;
  }

  /** The terminal's settings as stty tells them, from the shell's prompt. */
  async settings(): Promise<string> {
    await this.sees(/ready> $/);
    this.type("stty -a; echo end-of-stty\n");
    return (
      /speed[\s\S]*(?=end-of-stty\r?\n)/.exec(await this.sees(/\nend-of-stty[\s\S]*ready> $/))?.[0] ?? ""
    );
  }

  /** Attaches and waits for the guest's prompt. */
  async console(flags = ""): Promise<void> {
    this.type(`./skep console web ${flags}\n`);
    await this.sees(/Ctrl-\] detaches/);
    await sleep(300); // the keyboard is given with the socket's first message
    this.type("\n");
    await this.sees(/# $|# \x1b\[6n$/);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const ended = once(this.#child, "exit");
    if (this.#child.exitCode !== null) return;
    this.#child.kill("SIGKILL"); // the shell below gets its SIGHUP
    await ended;
  }
}

/** Runs a client that stays, says a line, waits for the answer, and ends the client. */
async function dialogue(program: string, args: string[], line: string, answer: RegExp): Promise<void> {
  const child = spawn(program, args);
  const ended = once(child, "exit");
  let seen = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    seen += text;
  });
  try {
    if (program === "telnet") {
      await eventually(
        () => seen.includes("Escape character"),
        () => `telnet did not connect: ${seen}`,
      );
    }
    child.stdin.write(line);
    await eventually(
      () => answer.test(seen),
      () => `${answer} is not in: ${seen}`,
      60_000,
    );
  } finally {
    child.kill();
    await ended;
  }
}

describe("the console of a machine", () => {
  it("runs what is typed, detaches with Ctrl-], and gives the terminal back as it was", async () => {
    await using terminal = new Terminal();
    const before_ = await terminal.settings();
    assert.match(before_, / icanon/);
    terminal.type("\n");
    await terminal.console();
    terminal.type("echo answer-$((40 + 2))\n");
    await terminal.sees(/\nanswer-42\r/);
    terminal.type("\x1d");
    await terminal.sees(/detached from web/);
    terminal.type("\n");
    assert.equal(await terminal.settings(), before_);
  });

  it("has one writer; others are told how to watch or take over, and the first one learns of it", async () => {
    await using first = new Terminal();
    await first.console();
    const refused = await skep.skep(["console", "web"], { status: 1 });
    assert.match(refused.stderr, /written to by someone else\n.*console web --take.*console web --watch/);
    await using watcher = new Terminal();
    watcher.type("./skep console web --watch\n");
    await watcher.sees(/Ctrl-\] detaches/);
    first.type("echo seen-by-$((1 + 1))\n");
    await watcher.sees(/\nseen-by-2\r/);
    watcher.type("echo never\n");
    await using second = new Terminal();
    await second.console("--take");
    await first.sees(/another console took over the keyboard/);
    second.type("echo mine\n");
    assert.doesNotMatch(await watcher.sees(/\nmine\r/), /never/);
    second.type("\x1d");
    watcher.type("\x1d");
    await watcher.sees(/detached from web/);
  });

  it("is shared with a script on its socket, and with telnet", async () => {
    await using terminal = new Terminal();
    await terminal.console();
    const { sockets, telnetPort } = await skep.machine("web");
    await dialogue("nc", ["-U", sockets.console], "echo by-script\n", /\nby-script\r/);
    await terminal.sees(/\nby-script\r/);
    await dialogue("telnet", ["127.0.0.1", String(telnetPort)], "echo by-telnet\n", /\nby-telnet\r/);
    await terminal.sees(/\nby-telnet\r/);
    terminal.type("\x1d");
    await terminal.sees(/detached from web/);
  });

  it("takes a pipe: input is typed, output printed until silence", async () => {
    const { stdout } = await skep.skep(["console", "--linger", "3s"], { input: "echo piped-$((6 * 7))\n" });
    assert.match(stdout, /\npiped-42\r/);
  });

  it("gives the terminal back when skepd is killed meanwhile", async () => {
    await using terminal = new Terminal();
    const before_ = await terminal.settings();
    terminal.type("\n");
    await terminal.console();
    await skep.killDaemon();
    await terminal.sees(/connection to machine "web" was lost/);
    terminal.type("\n");
    assert.equal(await terminal.settings(), before_);
  });

  it("says that the machine has stopped, also when the monitor was told to quit", async () => {
    await using terminal = new Terminal();
    await terminal.console();
    const { sockets } = await skep.machine("web");
    await skep.command("sh", ["-c", `echo quit | nc -NU ${sockets.control}`]);
    await terminal.sees(
      /console of web closed: ended through the monitor|console of web closed: the machine has stopped/,
    );
    await skep.until("web", ({ state }) => state === "stopped", "stopped");
    const { stderr } = await skep.skep(["console", "web"], { status: 1 });
    assert.match(stderr, /"web" is not running\n.*skep start web/);
  });
});

import assert from "node:assert/strict";
import { once } from "node:events";
import { after, before, describe, it } from "node:test";
import { gone, programs } from "./guest-programs.ts";
import { Terminal } from "./pty.ts";
import { eventually, Installation } from "./support.ts";

let skep: Installation;
before(async () => {
  skep = await Installation.make();
  await skep.skep(["new", "web", "--image", "tiny", "--memory", "128M", "--cpus", "1", "--start", "--wait"]);
});
after(() => skep[Symbol.asyncDispose]());

async function sh(script: string): Promise<string> {
  return (await skep.skep(["exec", "web", "--", "sh", "-c", script])).stdout.trim();
}

type When = "before-suspend" | "after-resume";

/** Replaces all hooks of the guest, and what they have noted. */
async function setHooks(hooks: [when: When, name: string, script: string, mode?: string][]): Promise<void> {
  const write = hooks.map(([when, name, script, mode = "755"]) => {
    const path = `/etc/skep/${when}.d/${name}`;
    return `cat >'${path}' <<'END'\n#!/bin/sh\n${script}\nEND\nchmod ${mode} '${path}'`;
  });
  const directories = "/etc/skep/before-suspend.d /etc/skep/after-resume.d";
  await sh(`rm -rf /etc/skep /notes; mkdir -p ${directories}; : >/notes\n${write.join("\n")}`);
}

const notes = async () => (await sh("cat /notes")).split("\n").filter((line) => line !== "");
const note = (word: string) => `echo ${word} >>/notes`;

describe("hooks in a guest", () => {
  it("run by name before a suspend and after the resume", async () => {
    await setHooks([
      ["before-suspend", "20-second", note("second")],
      ["before-suspend", "10-first", `${note("first")}; id -u >>/notes`],
      ["before-suspend", "15-plain", note("plain"), "644"],
      ["before-suspend", "15-backup~", note("backup")],
      ["before-suspend", ".hidden", note("hidden")],
      ["after-resume", "10-after", note("after")],
    ]);
    await skep.skep(["suspend", "web"]);
    await skep.skep(["resume", "web"]);
    assert.deepEqual(await notes(), ["first", "0", "second", "after"]);
  });

  it("that fail before a suspend stop it; what they printed is shown, and those for after a resume run", async () => {
    await setHooks([
      ["before-suspend", "10-bad", `${note("bad")}; echo on purpose; printf '\\033[2Jclear' >&2; exit 3`],
      ["before-suspend", "20-later", note("later")],
      ["after-resume", "10-after", note("after")],
    ]);
    const { stderr } = await skep.skep(["suspend", "web"], { status: 1 });
    assert.match(stderr, /hook \/etc\/skep\/before-suspend\.d\/10-bad ended with status 3:\non purpose\n/);
    assert.match(stderr, /skep suspend web --no-hooks/);
    assert.ok(!stderr.includes("\x1b"));
    assert.equal((await skep.machine("web")).state, "running");
    assert.deepEqual(await notes(), ["bad", "after"]);
  });

  it("that hang, or print without end, are ended with all that they started", async () => {
    for (const script of ["sleep 4242 & sleep 4242", "yes hello | cat"]) {
      await setHooks([["before-suspend", "10-hangs", script]]);
      const { stderr } = await skep.skep(["suspend", "web", "--hook-timeout", "1s"], { status: 1 });
      assert.match(stderr, /10-hangs did not end within 1 s/);
      assert.ok(stderr.length < 20_000);
      await sh(gone("sleep 424[2]|^yes$"));
    }
  });

  it("are left out by --no-hooks", async () => {
    await setHooks([
      ["before-suspend", "10-bad", "exit 1"],
      ["after-resume", "10-after", note("after")],
    ]);
    await skep.skep(["suspend", "web", "--no-hooks"]);
    await skep.skep(["resume", "web", "--no-hooks"]);
    assert.deepEqual(await notes(), []);
  });

  it("that fail after a resume are told, and nothing more; what they leave running lives on", async () => {
    await setHooks([
      ["after-resume", "10-starts", "sleep 4343 >/dev/null 2>&1 &"],
      ["after-resume", "20-bad", "echo not today; echo at all; exit 9"],
      ["after-resume", "30-next", note("next")],
    ]);
    await skep.skep(["suspend", "web"]);
    const { stderr } = await skep.skep(["resume", "web"]);
    assert.match(stderr, /after-resume\.d\/20-bad of web ended with status 9: not today; at all\n/);
    assert.deepEqual(await notes(), ["next"]);
    assert.match(await sh(`${programs} | grep 'sleep 434[3]'`), /sleep 4343/);
  });
});

describe("start --attach", () => {
  it("resumes a machine at its console, and suspends it by Ctrl-C, in a terminal and by a signal", async () => {
    await setHooks([["before-suspend", "10-note", note("asleep")]]);
    await skep.skep(["suspend", "web", "--no-hooks"]);
    await using terminal = new Terminal(skep, ["start", "web", "--attach"]);
    await terminal.until(/Ctrl-C suspends it, Ctrl-\] detaches/);
    await eventually(
      async () => {
        terminal.type("echo he''re\n"); // the keyboard is given a moment later
        return terminal.shows(/\nhere/);
      },
      () => "the console is not attached",
    );
    terminal.type("\x03");
    await terminal.until(/web is suspended: /);
    assert.equal(await terminal.status, 0);
    assert.equal((await skep.machine("web")).state, "suspended");
    const piped = skep.spawn(["start", "web", "--attach"]);
    const ended = once(piped, "exit");
    await once(piped.stdout, "data"); // it is attached, and shown what was printed before
    assert.deepEqual(await notes(), ["asleep"]);
    piped.kill("SIGINT");
    await ended;
    assert.equal((await skep.machine("web")).state, "suspended");
    await skep.skep(["start", "web", "--attach", "--all"], { status: 2 });
  });
});

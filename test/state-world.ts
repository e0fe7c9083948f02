/** A tiny guest, and the process that steers it: what must hold whenever one of both was killed. */
import assert from "node:assert/strict";
import { type ChildProcess, fork } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { mkdir, readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { Machine } from "@skep/api/schemas";
import { homeMark, SkepError } from "@skep/base";
import type { Answer, Asked } from "./state-process.ts";
import { eventually, Installation } from "./support.ts";

export const suspendPoints = ["intent", "stopped", "device", "packed", "committed", "saved"];
/** Until the fifth the disks are as they were. */
export const freezePoints = [
  "freeze-copied",
  "freeze-held",
  "freeze-stopped",
  "freeze-copied-still",
  "freeze-disks",
  "freeze-running",
  "freeze-made",
];
export const resumePoints = ["loaded", "resuming", "running"];

/** Longer than any kill is put off. */
const killSettlesMs = 500;

/** For a verb whose process was killed before it could answer. */
export const killed: unique symbol = Symbol("killed");

export class StateWorld implements AsyncDisposable {
  readonly skep: Installation;
  #control: ChildProcess | undefined;
  #nonce = "";
  #record = "";
  #count = 0;

  private constructor(skep: Installation) {
    this.skep = skep;
  }

  static async make(): Promise<StateWorld> {
    const world = new StateWorld(await Installation.make());
    await mkdir(world.skep.runtime, { recursive: true, mode: 0o711 });
    await world.open();
    return world;
  }

  /** With machine `web`, which runs and has its marks. */
  static async withMachine(): Promise<StateWorld> {
    const world = await StateWorld.make();
    try {
      await world.ask({ verb: "create" });
      await world.leaveMarks();
      return world;
    } catch (error) {
      await world[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** A new control process, which first brings in order what the last one left. */
  async open(): Promise<void> {
    const program = join(import.meta.dirname, "state-process.ts");
    const { home, runtime } = this.skep;
    this.#control = fork(program, [home, runtime], { env: this.skep.environment });
    assert.deepEqual(await this.#answer(), {}, "the control process did not start");
  }

  async #answer(): Promise<Answer | typeof killed> {
    const child = this.#control as ChildProcess;
    const over = new AbortController();
    const { signal } = over;
    try {
      return await Promise.race<Answer | typeof killed>([
        once(child, "message", { signal }).then(([answer]) => answer as Answer),
        once(child, "exit", { signal }).then((): typeof killed => killed),
      ]);
    } finally {
      over.abort();
    }
  }

  async reopen(): Promise<void> {
    await this.#end();
    await this.open();
  }

  async #end(): Promise<void> {
    const child = this.#control;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const exited = once(child, "exit");
    child.kill("SIGKILL");
    await exited;
  }

  /** Whatever a delayed kill has hit, and it has: control is there, and the machine in one of its three states. */
  async afterKill(what: "control" | "qemu"): Promise<void> {
    if (what === "control") {
      await this.reopen();
      return;
    }
    await sleep(killSettlesMs); // the kill may still be to come
    await eventually(
      async () => ["running", "suspended", "stopped"].includes((await this.machine()).state),
      () => "the end of QEMU was not seen",
    );
  }

  async ask<T = unknown>(asked: Asked): Promise<T | typeof killed> {
    this.#control?.send(asked);
    const answer = await this.#answer();
    if (answer === killed) return killed;
    if (answer.error !== undefined) throw new SkepError(answer.error.code, answer.error.message);
    return answer.result as T;
  }

  async sh(script: string): Promise<string> {
    const output = await this.ask<string>({ verb: "exec", script });
    assert.ok(output !== killed);
    return output;
  }

  async machine(): Promise<Machine> {
    const machine = await this.ask<Machine>({ verb: "get" });
    assert.ok(machine !== killed);
    return machine;
  }

  /** What no boot brings back: a nonce in the guest's memory, and a process that counts. */
  async leaveMarks(): Promise<void> {
    this.#nonce = randomBytes(8).toString("hex");
    this.#count = 0;
    const count = "i=0; while :; do i=$((i + 1)); echo $i >/tmp/count; sleep 0.2; done";
    await this.sh(`echo ${this.#nonce} >/tmp/nonce; (${count}) >/dev/null 2>&1 &`);
    await this.writeRecord();
  }

  /** On the disk, durable for the guest. */
  async writeRecord(): Promise<void> {
    this.#record = randomBytes(16).toString("hex");
    await this.sh(`echo ${this.#record} | dd of=/dev/vda conv=notrunc,fsync 2>/dev/null`);
  }

  async checkDisk(): Promise<void> {
    assert.equal(await this.sh("head -c 32 /dev/vda"), this.#record);
  }

  /** It goes on where it was: it was neither booted nor set back. */
  async checkMarks(): Promise<void> {
    // It is empty for a moment when it is written; where it is not there, the machine has booted.
    const count = 'c=; while [ -z "$c" ]; do c=$(cat /tmp/count) || exit; done';
    const until = `n=0; while [ $c = $from ] && [ $n -lt 100 ]; do sleep 0.1; n=$((n + 1)); ${count}; done`;
    const script = `cat /tmp/nonce; head -c 32 /dev/vda; echo; ${count}; from=$c; ${until}; echo $from $c`;
    const [nonce, record, counts = ""] = (await this.sh(script)).split("\n");
    const [counted = 0, now = 0] = counts.split(" ").map(Number);
    assert.equal(nonce, this.#nonce);
    assert.ok(counted >= this.#count, `counted ${counted} after ${this.#count}`);
    assert.ok(now > counted, "the counting process has stopped");
    this.#count = now;
    assert.equal(record, this.#record);
  }

  /** What is on this host is exactly what the machine's state wants. */
  async checkNothingLeft(): Promise<void> {
    const { id, state, suspended } = await this.machine();
    const states = await readdir(join(this.skep.home, "states")).catch(() => []);
    assert.deepEqual(states, suspended === null ? [] : [suspended.state]);
    const pids = await this.skep.qemuPids();
    const shared = await readdir("/dev/shm");
    const memory = shared.filter((name) => name === `skep-${id.slice(0, 8)}`);
    const home = homeMark(this.skep.home);
    // For a while a machine that sleeps has its memory there as well, as QEMU left it.
    const kept = `skep-kept-${home}-${suspended?.state}`;
    assert.deepEqual(
      shared.filter((name) => name.includes(home) && name !== kept),
      [],
    );
    assert.deepEqual(await this.frozen(), []);
    const short = id.replaceAll("-", "").slice(0, 8);
    const runs = state === "running";
    assert.equal(pids.length, runs ? 1 : 0, `${pids.length} QEMUs of a machine that is ${state}`);
    assert.equal(memory.length, runs ? 1 : 0);
    assert.equal((await readdir(this.skep.runtime)).includes(short), runs);
    if (!runs) return;
    const sockets = await readdir(join(this.skep.runtime, short));
    assert.ok(!sockets.includes("state.sock"), sockets.join(" "));
  }

  /** Ids of this home's frozen machines. */
  async frozen(): Promise<string[]> {
    const names = (await readdir("/dev/shm")).filter((name) => name.startsWith("skep-frozen-st-"));
    const ids = names.map(async (name) => {
      const record = await readFile(join("/dev/shm", name, "record.json"), "utf8").catch(() => "{}");
      const { id, home } = JSON.parse(record) as { id?: string; home?: string };
      return home === this.skep.home && id !== undefined ? [id] : [];
    });
    return (await Promise.all(ids)).flat();
  }

  /** Whatever it is, it runs afterwards; gives what it was. */
  async wake(): Promise<Machine["state"]> {
    const { state } = await this.machine();
    if (state === "suspended") await this.ask({ verb: "resume" });
    if (state === "stopped") {
      await this.ask({ verb: "start" });
      await this.checkDisk();
      await this.leaveMarks();
    }
    return state;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#end();
    await this.skep[Symbol.asyncDispose]();
  }
}

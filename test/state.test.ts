import assert from "node:assert/strict";
import { readdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import type { Check, ResumeResult, SuspendResult } from "@skep/api";
import { eventually, Installation } from "./support.ts";

let skep: Installation;
before(async () => {
  skep = await Installation.make();
});
after(() => skep[Symbol.asyncDispose]());

const tiny = ["--image", "tiny", "--memory", "128M", "--cpus", "1"];

async function sh(name: string, script: string): Promise<string> {
  return (await skep.skep(["exec", name, "--", "sh", "-c", script])).stdout.trim();
}

/** Whole and half states that are on disk. */
async function states(): Promise<string[]> {
  return await readdir(join(skep.home, "states")).catch(() => []);
}

async function doctor(...more: string[]): Promise<Check[]> {
  const { stdout } = await skep.skep(["doctor", "--json", ...more], { status: null });
  return (JSON.parse(stdout) as Check[]).filter(({ name }) => name.startsWith("state"));
}

/** Puts something into the guest's memory that no reboot brings back. */
async function leaveNonce(name: string): Promise<string> {
  const nonce = `nonce-${process.hrtime.bigint()}`;
  await sh(name, `echo ${nonce} >/nonce`);
  return nonce;
}

describe("a machine that is suspended", () => {
  before(() => skep.skep(["new", "web", ...tiny, "--start", "--wait", "-p", "0:7000"]));
  after(() => skep.skep(["rm", "--force", "web"]));

  it("sleeps over a restart of the host, and goes on where it was", async () => {
    const nonce = await leaveNonce("web");
    // It counts in memory alone, and only for as long as it lives.
    const loop = "(i=0; while :; do i=$((i + 1)); echo $i >/count; sleep 0.1; done) >/dev/null 2>&1";
    await sh("web", `${loop} & echo $! >/counter`);
    await eventually(
      async () => Number(await sh("web", "cat /count")) > 2,
      () => "nothing counted",
    );
    const { id, ports } = await skep.machine("web");
    // Its pid and name, and when it was started, in ticks since the boot.
    const counter = async () => await sh("web", "cut -d' ' -f1,2,22 /proc/$(cat /counter)/stat");
    const counting = await counter();
    const suspended = await skep.skep(["suspend", "web"]);
    assert.equal(suspended.stdout, "web\n");
    assert.match(suspended.stderr, /^web is suspended: .* of memory, .* stored, paused .*s$/m);
    assert.match((await skep.skep(["ls"])).stdout, /web\s+suspended/);
    assert.match((await skep.skep(["status", "web"])).stdout, /suspended\s+\d+s ago: .* stored/);
    assert.equal((await skep.skep(["ls", "-q", "--filter", "state=suspended"])).stdout, "web\n");
    assert.deepEqual(await skep.qemuPids(), []);
    assert.ok(!(await readdir("/dev/shm")).includes(`skep-${id.slice(0, 8)}`));

    await skep.killDaemon();
    await rm(skep.runtime, { recursive: true }); // as every boot of the host makes it anew
    await writeFile(join(skep.home, "autostarted"), "another boot");
    const machine = await skep.machine("web");
    assert.equal(machine.state, "suspended");
    assert.ok(machine.suspended !== null && machine.suspended.populatedMiB > 0);

    const resumed = await skep.skep(["resume", "web"]);
    assert.equal(resumed.stdout, "web\n");
    assert.match(resumed.stderr, /^web goes on where it was, after .*s$/m);
    assert.equal(await sh("web", "cat /nonce"), nonce);
    const count = Number(await sh("web", "cat /count"));
    await eventually(
      async () => Number(await sh("web", "cat /count")) > count,
      () => "the count does not go on",
    );
    assert.equal(await counter(), counting);
    const after_ = await skep.machine("web");
    assert.deepEqual([after_.state, after_.suspended, after_.ports], ["running", null, ports]);
    assert.deepEqual(await states(), []);
  });

  it("keeps the connections between its programs, which miss nothing, and is told the time", async () => {
    const talk = "i=0; while :; do i=$((i + 1)); echo $i; sleep 0.1; done";
    await sh("web", "(sleep 99999 | nc -l -p 7001 >/heard) >/dev/null 2>&1 &");
    await sh("web", `sleep 1; ((${talk}) | nc 127.0.0.1 7001) >/dev/null 2>&1 &`);
    const heard = async () => (await sh("web", "cat /heard")).split("\n").map(Number);
    await eventually(
      async () => (await heard()).length > 2,
      () => "nothing was heard",
    );
    await sh("web", "date -u -s '2020-01-01 00:00:00'");
    const { length } = await heard();
    await skep.skep(["suspend", "web"]);
    await skep.skep(["resume", "web"]);
    const clock = Number(await sh("web", "date +%s"));
    assert.ok(Math.abs(clock - Date.now() / 1000) < 60, `its clock says ${clock}`);
    await eventually(
      async () => (await heard()).length > length + 2,
      () => "nothing is heard any more",
    );
    const all = await heard();
    assert.deepEqual(
      all,
      all.map((_, index) => index + 1),
    );
  });

  it("is resumed by start, which says so", async () => {
    const nonce = await leaveNonce("web");
    await skep.skep(["suspend", "web"]);
    const started = await skep.skep(["start", "web", "--wait"]);
    assert.match(started.stderr, /web is resumed: it goes on where it was/);
    assert.equal(await sh("web", "cat /nonce"), nonce);
  });

  it("tells programs what was stored, and how it came back", async () => {
    const suspended = JSON.parse((await skep.skep(["suspend", "web", "--json"])).stdout) as SuspendResult;
    assert.equal(suspended.machine.state, "suspended");
    const { storedBytes = 0, pauseMs = 0, state = "" } = suspended.machine.suspended ?? {};
    assert.ok(storedBytes > 0 && pauseMs > 0 && suspended.durationMs >= pauseMs);
    assert.match(state, /^st-[0-9a-f]{17}$/);
    assert.deepEqual(await states(), [state]);
    const resumed = JSON.parse((await skep.skep(["resume", "web", "--json"])).stdout) as ResumeResult;
    assert.deepEqual([resumed.machine.state, resumed.how], ["running", "resumed"]);
  });

  it("is not changed, stopped, restarted or made a base meanwhile; its state goes with it", async () => {
    await skep.skep(["new", "gone", ...tiny, "--start", "--wait"]);
    await skep.skep(["suspend", "gone"]);
    const refused = [
      ["edit", "gone", "--memory", "256M"],
      ["stop", "gone"],
      ["restart", "gone"],
    ];
    for (const args of refused) {
      const { stderr } = await skep.skep(args, { status: 1 });
      assert.match(stderr, /"gone": it is suspended\n.*skep resume gone/);
    }
    await skep.skep(["stop", "--all"]);
    assert.equal((await skep.machine("gone")).state, "suspended");
    await skep.skep(["start", "web"]);
    await skep.skep(["rm", "gone"]);
    assert.deepEqual(await states(), []);
  });
});

describe("suspend and resume", () => {
  before(() => skep.skep(["new", "web", ...tiny]));
  after(() => skep.skep(["rm", "--force", "web"]));

  it("refuse a machine that is stopped, with the next step", async () => {
    for (const verb of ["suspend", "resume"]) {
      const { stderr } = await skep.skep([verb, "web"], { status: 1 });
      assert.match(stderr, /"web" (cannot be suspended: it is stopped|is not suspended)\n.*skep start web/);
    }
    const none = await skep.skep(["suspend"], { status: 2 });
    assert.match(none.stderr, /skep suspend needs a machine's name, or --all/);
    assert.deepEqual(await states(), []);
  });

  it("of one machine at once come one after the other", async () => {
    await skep.skep(["start", "web", "--wait"]);
    const nonce = await leaveNonce("web");
    const both = await Promise.all([1, 2].map(() => skep.skep(["suspend", "web"], { status: null })));
    assert.ok(both.some(({ status }) => status === 0));
    assert.equal((await skep.machine("web")).state, "suspended");
    assert.equal((await states()).length, 1);
    const mixed = await Promise.all([
      skep.skep(["resume", "web"], { status: null }),
      skep.skep(["start", "web"], { status: null }),
    ]);
    assert.ok(mixed.some(({ status }) => status === 0));
    assert.equal((await skep.machine("web")).state, "running");
    assert.equal((await skep.qemuPids()).length, 1);
    assert.equal(await sh("web", "cat /nonce"), nonce);
  });

  it("leave a machine that runs already as it is", async () => {
    const nonce = await leaveNonce("web");
    const { stderr } = await skep.skep(["resume", "web"], { status: null });
    assert.match(stderr, /"?web"? (runs already|is not suspended)/);
    assert.equal(await sh("web", "cat /nonce"), nonce);
  });
});

describe("Ctrl-C", () => {
  before(() =>
    skep.skep(["new", "big", "--image", "tiny", "--memory", "512M", "--cpus", "1", "--start", "--wait"]),
  );
  after(() => skep.skep(["rm", "--force", "big"]));

  let nonce = "";

  it("during a suspend leaves the machine running, and nothing of the state", async () => {
    nonce = await leaveNonce("big");
    await sh("big", "dd if=/dev/urandom of=/fill bs=1M count=200 2>/dev/null");
    const { status, stderr } = await skep.interrupted(["suspend", "big"], /suspending big\n/);
    assert.equal(status, 130, stderr);
    assert.match(stderr, /cancelling; big runs on unless/);
    assert.equal((await skep.machine("big")).state, "running");
    assert.equal(await sh("big", "cat /nonce"), nonce);
    assert.deepEqual(await states(), []);
  });

  it("during a resume leaves it suspended, to be resumed later", async () => {
    await skep.skep(["suspend", "big"]);
    await skep.forgetKeptMemory();
    const { status, stderr } = await skep.interrupted(["resume", "big"], /loading the memory of big\n/);
    assert.equal(status, 130, stderr);
    assert.match(stderr, /cancelling; big stays suspended unless/);
    const { state, reason } = await skep.machine("big");
    assert.deepEqual([state, reason], ["suspended", null]);
    assert.deepEqual(await skep.qemuPids(), []);
    assert.equal((await states()).length, 1);
    await skep.skep(["resume", "big"]);
    assert.equal(await sh("big", "cat /nonce"), nonce);
  });
});

describe("a state that cannot be used", () => {
  before(async () => {
    await skep.skep(["new", "hurt", ...tiny, "--start", "--wait"]);
    await leaveNonce("hurt");
    await skep.skep(["suspend", "hurt"]);
  });
  after(() => skep.skep(["rm", "--force", "hurt"]));

  it("is named with the chunk, and the machine stays suspended", async () => {
    assert.deepEqual(
      (await doctor("--thorough")).map(({ status }) => status),
      ["ok"],
    );
    const [state = ""] = await states();
    const pack = join(skep.home, "states", state, "memory.pack");
    const bytes = await readFile(pack);
    bytes[64] = (bytes[64] as number) ^ 0xff;
    await writeFile(pack, bytes);
    await skep.forgetKeptMemory();
    for (const verb of ["resume", "start"]) {
      const { stderr } = await skep.skep([verb, "hurt"], { status: 1 });
      assert.match(stderr, /memory\.pack, chunk 0.*\n.*--cold/s);
    }
    assert.equal((await skep.machine("hurt")).state, "suspended");
    assert.deepEqual(await skep.qemuPids(), []);
    const [check] = await doctor("--thorough");
    assert.deepEqual([check?.name, check?.status], ["state of hurt", "failed"]);
    assert.match(check?.fix ?? "", /skep resume hurt --cold/);
  });

  it("is given up by --cold, which boots from the disk and leaves nothing of it", async () => {
    const cold = await skep.skep(["resume", "hurt", "--cold", "--wait"]);
    assert.match(cold.stderr, /hurt boots from its disk; its memory is given up/);
    assert.equal(await sh("hurt", "test -e /nonce || echo gone"), "gone");
    assert.deepEqual(await states(), []);
  });
});

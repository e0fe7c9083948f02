import assert from "node:assert/strict";
import { mkdir } from "node:fs/promises";
import { after, before, describe, it } from "node:test";
import type { LivenessRequest, Machine } from "@skep/api/schemas";
import { processStartTime, quietWork } from "@skep/base";
import { ImageStore } from "@skep/images";
import { type MachineEvent, Machines } from "@skep/machines";
import { gone } from "./guest-programs.ts";
import { guestSh } from "./guest-sh.ts";
import { eventually, Installation } from "./support.ts";

const log = { debug() {}, info() {}, warn() {}, error() {} };
const work = quietWork();
const quick = { intervalSeconds: 0.2, failures: 2, timeoutSeconds: 2, startSeconds: 0 };

let skep: Installation;
let machines: Machines;
let onEvent: (event: MachineEvent) => void = () => {};

before(async () => {
  skep = await Installation.make();
  await mkdir(skep.runtime, { recursive: true, mode: 0o711 });
  machines = await Machines.open({
    home: skep.home,
    runtime: skep.runtime,
    images: new ImageStore({ home: skep.home }),
    log,
    restartTimes: { firstMs: 100, longestMs: 1000, settledMs: 600_000 },
    onEvent: (event) => onEvent(event),
  });
  await machines.autostart();
  await machines.create(
    {
      name: "web",
      image: "tiny",
      memoryMiB: 96,
      cpus: 1,
      ports: [{ hostPort: 0, guestPort: 7000 }],
      check: { kind: "http", port: 7000, path: "/ok", ...quick, timeoutSeconds: 5 },
    },
    work,
  );
});
after(async () => {
  await machines.close();
  await skep[Symbol.asyncDispose]();
});

const sh = (script: string) => guestSh(machines, "web", script);

async function until(holds: (machine: Machine) => boolean, what: string): Promise<Machine> {
  const get = () => machines.get("web");
  await eventually(
    () => holds(get()),
    () => `it was never ${what}: ${JSON.stringify(get())}`,
  );
  return get();
}

const saying = (state: "passing" | "failing", why = /^/) =>
  until(
    ({ liveness }) => liveness?.state === state && (state === "passing" || why.test(liveness.why ?? "")),
    `${state} ${why}`,
  );

const serve = () => sh("mkdir -p /www && echo yes >/www/ok && httpd -p 7000 -h /www");
const check = (request: LivenessRequest) => machines.edit("web", { check: { ...quick, ...request } }, work);

async function killQemu(): Promise<void> {
  const { pid } = await until(({ state, pid }) => state === "running" && pid !== null, "running");
  process.kill(pid as number, "SIGKILL");
  await eventually(
    () => processStartTime(pid as number) === undefined,
    () => "QEMU does not end",
  );
}

const restarted = (count: number) =>
  until(
    ({ state, restarts }) => state === "running" && restarts?.count === count && restarts.dueAt === null,
    `restarted ${count} times`,
  );

describe("the check of a machine", () => {
  it("is what --wait waits for", async () => {
    const waiting = machines.start("web", { wait: true }, work);
    await until(({ state }) => state === "running", "running");
    await serve();
    await waiting;
    const { ports } = await saying("passing");
    const removal = machines.removePort("web", { hostPort: ports[0]?.hostPort as number });
    await assert.rejects(removal, { code: "MACHINE_INVALID", message: /its check asks port 7000/ });
  });

  it("by http sees another answer, a server that is gone, and its return", async () => {
    await sh("rm /www/ok");
    await saying("failing", /^HTTP status 404$/);
    await assert.rejects(machines.start("web", { wait: true, waitSeconds: 1 }, work), {
      code: "CHECK_FAILING",
      message: /did not succeed within 1 s: HTTP status 404/,
    });
    await sh("killall httpd");
    await saying("failing", /refused/);
    await serve();
    await saying("passing");
    assert.equal(machines.get("web").restarts, null);
  });

  it("by tcp knows a port that only QEMU accepts, and a guest that does not answer", async () => {
    await check({ kind: "tcp", port: 7000 });
    await saying("passing");
    await sh("killall httpd");
    await saying("failing", /refused/);
    await serve();
    const { pid } = await saying("passing");
    process.kill(pid as number, "SIGSTOP");
    try {
      await saying("failing", /no answer within 2 s/);
    } finally {
      process.kill(pid as number, "SIGCONT");
    }
    await saying("passing");
  });

  it("by a command shows what that said; one that hangs or prints without end is ended", async () => {
    for (const [command, timeoutSeconds, why] of [
      ["echo nothing here; false", 60, /^it ended with status 1: nothing here$/],
      ["no-such-program", 60, /^it ended with status 127: .*not found/],
      ["sleep 4242 & sleep 4242", 2, /^it did not end within 2 s$/],
      ["yes hello", 2, /^it did not end within 2 s: hello$/],
    ] as const) {
      await check({ kind: "command", command, timeoutSeconds });
      await saying("failing", why);
    }
    await check({ kind: "command", command: "yes hello | head -n 100000", timeoutSeconds: 60 });
    await saying("passing");
    await machines.edit("web", { check: null }, work);
    assert.equal(machines.get("web").liveness, null);
    await sh(gone("sleep 424[2]|^yes$"));
  });
});

describe("the restart policy of a machine", () => {
  it("starts a guest again whose check fails, gives up as it says, and is content when it succeeds", async () => {
    const command = "test -e /ok";
    await machines.edit("web", { restart: { policy: "on-failure", attempts: 1 } }, work);
    await check({ kind: "command", command, timeoutSeconds: 20 });
    const { state, restarts } = await until(({ restarts }) => restarts?.gaveUp === true, "given up");
    assert.deepEqual([state, restarts?.count, restarts?.dueAt], ["running", 1, null]);
    assert.match(restarts?.why ?? "", /^its check fails: /);
    await sh("touch /ok");
    assert.equal((await saying("passing")).restarts?.gaveUp, false);
  });

  it("on-failure leaves a guest that shut itself down, always does not", async () => {
    await sh("poweroff");
    const { restarts } = await until(({ state }) => state === "stopped", "stopped");
    assert.deepEqual([restarts?.count, restarts?.dueAt], [1, null]);
    await machines.edit("web", { restart: { policy: "always" }, check: null }, work);
    await machines.start("web", { wait: true }, work);
    assert.equal(machines.get("web").restarts, null);
    await sh("poweroff");
    assert.match((await restarted(1)).restarts?.why ?? "", /guest shut down/);
  });

  it("starts it again when QEMU has died, but not after its user has stopped it meanwhile", async () => {
    await killQemu();
    assert.match((await restarted(2)).restarts?.why ?? "", /QEMU ended unexpectedly/);
    const stopped = Promise.withResolvers<Machine>();
    onEvent = ({ type }) => {
      if (type === "machine.restart") stopped.resolve(machines.stop("web", {}, work));
    };
    await killQemu();
    await stopped.promise;
    onEvent = () => {};
    const { state, restarts } = machines.get("web");
    assert.deepEqual([state, restarts?.dueAt, restarts?.count], ["stopped", null, 2]);
  });
});

describe("skepd", () => {
  before(async () => {
    await machines.close();
    await skep.skep(["start", "web"]);
  });

  it("goes on with restarts where an earlier one was killed, also of what ended meanwhile", async () => {
    await skep.killDaemon();
    for (const pid of await skep.qemuPids()) process.kill(pid, "SIGKILL");
    const due = ({ restarts }: Machine) => restarts !== null;
    const { restarts } = await skep.until("web", due, "to be restarted");
    assert.match(restarts?.why ?? "", /while skepd was not running/);
    await skep.killDaemon();
    const again = await skep.until("web", ({ state }) => state === "running", "running");
    assert.equal(again.restarts?.count, 1);
    assert.equal((await skep.qemuPids()).length, 1);
    const status = (await skep.skep(["status", "web"])).stdout;
    assert.match(status, /restart\s+always\n\s+restarts\s+1, the last .* ago \(it ended while/);
  });

  it("never starts a machine that its user has put to sleep, whatever its check says", async () => {
    await skep.skep([
      "edit",
      "web",
      "--check",
      "command:false",
      "--check-interval",
      "100ms",
      "--check-start",
      "0s",
    ]);
    await skep.skep(["suspend", "web"]);
    await skep.killDaemon();
    assert.equal((await skep.machine("web")).state, "suspended");
    assert.deepEqual(await skep.qemuPids(), []);
  });
});

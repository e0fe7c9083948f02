import assert from "node:assert/strict";
import { once } from "node:events";
import { readdir, readFile, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { processStartTime } from "@skep/base";
import { eventually, Installation } from "./support.ts";

let skep: Installation;
before(async () => {
  skep = await Installation.make();
});
after(() => skep[Symbol.asyncDispose]());

const tiny = ["--image", "tiny", "--memory", "128M", "--cpus", "1"];

describe("the cheat sheet of aq", () => {
  it("works word for word", async () => {
    await skep.skep(["new", "guest-1", ...tiny]);
    await skep.skep(["start", "guest-1"]);
    assert.equal((await skep.machine("guest-1")).state, "running");
    assert.match((await skep.skep(["status", "guest-1"])).stdout, /running/);
    assert.match((await skep.skep(["ls"])).stdout, /guest-1\s+running\s+tiny/);
    const console = await skep.skep(["console"]);
    assert.match(console.stderr, /guest-1/);
    await skep.skep(["stop", "guest-1"]);
    const stopped = await skep.machine("guest-1");
    assert.deepEqual([stopped.state, stopped.reason], ["stopped", null]);
    await skep.skep(["rm", "guest-1"]);
    assert.deepEqual(await skep.machines(), []);
    assert.deepEqual(await readdir(join(skep.home, "machines")), []);
  });
});

describe("a machine that runs", () => {
  before(() => skep.skep(["new", "web", ...tiny, "--start", "--wait"]));
  after(() => skep.skep(["rm", "--force", "web"]));

  it("is not removed without being asked twice", async () => {
    const refused = await skep.skep(["rm", "web"], { status: 1 });
    assert.match(refused.stderr, /running machine "web".*\n.*skep stop web/s);
  });

  it("runs commands over the agent: status, both outputs, input", async () => {
    const result = await skep.skep(["exec", "web", "--", "sh", "-c", "cat; echo err >&2; exit 7"], {
      input: "in\n",
      status: 7,
    });
    assert.deepEqual([result.stdout, result.stderr], ["in\n", "err\n"]);
  });

  it("passes arguments as they are, with no shell between", async () => {
    const nasty = "a b;$(id)`id`'\"\\*\n#";
    const { stdout } = await skep.skep(["exec", "web", "--", "printf", "%s", nasty]);
    assert.equal(stdout, nasty);
  });

  it("survives kill -9 of skepd, and is found again, the same process", async () => {
    const before_ = await skep.machine("web");
    await skep.killDaemon();
    const after_ = await skep.machine("web");
    assert.equal(after_.state, "running");
    assert.equal(after_.pid, before_.pid);
    assert.deepEqual(await skep.qemuPids(), [before_.pid]);
    await skep.skep(["start", "web"]);
    assert.deepEqual(await skep.qemuPids(), [before_.pid]);
    assert.equal((await skep.skep(["exec", "web", "--", "hostname"])).stdout, "web\n");
  });

  it("takes a picture of its display", async () => {
    const path = join(skep.home, "screen.png");
    await skep.skep(["screenshot", "web", path]);
    assert.equal((await readFile(path)).subarray(1, 4).toString(), "PNG");
  });

  it("tells what it uses", async () => {
    const stats = JSON.parse((await skep.skep(["stats", "web", "--json", "--no-stream"])).stdout);
    const sample = Array.isArray(stats) ? stats[0] : stats;
    assert.equal(sample.name, "web");
    assert.ok(sample.cpuSeconds > 0 && sample.memoryResidentBytes > 0);
  });

  it("prints its whole command line, which holds no file of another machine", async () => {
    const { stdout } = await skep.skep(["inspect", "web", "--qemu"]);
    assert.match(stdout, /-sandbox on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny/);
    assert.match(stdout, /-m 128M/);
  });

  it("publishes a port at once, keeps it over a restart, and takes it back", async () => {
    const server = skep.skep(["exec", "web", "--", "sh", "-c", "echo hello | nc -l -p 7000"]);
    await skep.skep(["port", "add", "web", "0:7000"]);
    const [port] = (await skep.machine("web")).ports;
    assert.ok(port !== undefined && port.hostAddress === "127.0.0.1" && port.automatic);
    let heard = "";
    await eventually(
      async () => {
        heard = (await skep.command("nc", ["-w", "5", "127.0.0.1", String(port.hostPort)])).stdout;
        return heard !== "";
      },
      () => "nothing came through the forwarded port",
    );
    assert.equal(heard, "hello\n");
    await server;
    await skep.skep(["port", "rm", "web", String(port.hostPort)]);
    assert.deepEqual((await skep.machine("web")).ports, []);
  });

  it("has its settings changed only when stopped, and says so", async () => {
    const refused = await skep.skep(["edit", "web", "--memory", "256M"], { status: 1 });
    assert.match(refused.stderr, /running machine "web": stop it first/);
    await skep.skep(["edit", "web", "--autostart"]);
    assert.equal((await skep.machine("web")).autostart, true);
  });
});

describe("the end of a machine", () => {
  before(() => skep.skep(["new", "end", ...tiny]));
  after(() => skep.skep(["rm", "--force", "end"]));

  const ends: [string, () => Promise<unknown>, RegExp][] = [
    [
      "the guest shuts down",
      () => skep.skep(["exec", "end", "--", "poweroff"], { status: null }),
      /guest shut down/,
    ],
    [
      "the guest panics",
      () =>
        skep.skep(
          ["exec", "end", "--", "sh", "-c", "echo 1 > /proc/sys/kernel/sysrq; echo c > /proc/sysrq-trigger"],
          { status: null },
        ),
      /guest panicked/,
    ],
    [
      "QEMU is killed",
      async () => process.kill((await skep.machine("end")).pid as number, "SIGKILL"),
      /SIGKILL|ended unexpectedly/,
    ],
    [
      "the monitor is told to quit",
      async () =>
        skep.command("sh", ["-c", `echo quit | nc -NU ${(await skep.machine("end")).sockets.control}`]),
      /through the monitor/,
    ],
  ];
  for (const [what, act, reason] of ends) {
    it(`is seen at once, with the reason, when ${what}`, async () => {
      await skep.skep(["start", "end", "--wait"]);
      const acting = act();
      const ended = await skep.until("end", (machine) => machine.state === "stopped", "stopped");
      assert.match(ended.reason ?? "", reason);
      await acting;
      assert.deepEqual(await skep.qemuPids(), []);
      assert.match((await skep.skep(["ls"])).stdout, reason);
    });
  }

  it("leaves neither memory nor sockets of it", async () => {
    const { id } = await skep.machine("end");
    assert.ok(!(await readdir("/dev/shm")).includes(`skep-${id.slice(0, 8)}`));
    assert.ok(!(await readdir(skep.runtime)).includes(id.slice(0, 8)));
  });
});

describe("ports of the host", () => {
  it("that are taken are refused with the next step, and nothing is left", async () => {
    const server = createServer().listen(0, "127.0.0.1");
    await once(server, "listening");
    const address = server.address();
    assert.ok(address !== null && typeof address === "object");
    try {
      const refused = await skep.skep(["new", "p", ...tiny, "--publish", `${address.port}:80`], {
        status: 1,
      });
      assert.match(refused.stderr, new RegExp(`${address.port}.*in use`));
      assert.deepEqual(await readdir(join(skep.home, "machines")), []);
    } finally {
      server.close();
    }
  });

  it("that skep chose move when another program has taken them", async () => {
    await skep.skep(["new", "p", ...tiny, "--publish", "0:80"]);
    const [port] = (await skep.machine("p")).ports;
    const server = createServer().listen(port?.hostPort, "127.0.0.1");
    await once(server, "listening");
    try {
      await skep.skep(["start", "p"]);
      const [moved] = (await skep.machine("p")).ports;
      assert.notEqual(moved?.hostPort, port?.hostPort);
    } finally {
      server.close();
      await skep.skep(["rm", "--force", "p"]);
    }
  });
});

describe("skepd and the host", () => {
  it("does not kill the program that a stale pidfile names", async () => {
    await skep.skep(["new", "stale", ...tiny, "--start"]);
    const { pid, id } = await skep.machine("stale");
    await skep.killDaemon();
    process.kill(pid as number, "SIGKILL");
    await eventually(
      () => processStartTime(pid as number) === undefined,
      () => "QEMU is still there",
    );
    await writeFile(join(skep.runtime, id.slice(0, 8), "qemu", "qemu.pid"), `${process.pid}\n`);
    const stopped = await skep.machine("stale");
    assert.deepEqual([stopped.state, stopped.reason], ["stopped", "ended while skepd was not running"]);
    await skep.skep(["rm", "--force", "stale"]); // and this process still runs
  });

  it("starts what is marked autostart after a restart of the host, once", async () => {
    await skep.skep(["new", "auto", ...tiny, "--autostart", "--start"]);
    await skep.skep(["new", "manual", ...tiny, "--start"]);
    const pids = await skep.qemuPids();
    await skep.killDaemon();
    for (const pid of pids) process.kill(pid, "SIGKILL");
    await eventually(
      async () => (await skep.qemuPids()).length === 0,
      () => "QEMUs are still there",
    );
    await writeFile(join(skep.home, "autostarted"), "another boot");
    await skep.until("auto", (machine) => machine.state === "running", "running");
    assert.equal((await skep.machine("manual")).state, "stopped");
    await skep.skep(["stop", "--force", "auto"]);
    await skep.killDaemon();
    await skep.machines();
    assert.equal((await skep.machine("auto")).state, "stopped");
    await skep.skep(["rm", "auto", "manual"]);
  });
});

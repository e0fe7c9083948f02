import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { createReadStream } from "node:fs";
import { readdir, readFile } from "node:fs/promises";
import { connect } from "node:net";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { after, afterEach, before, describe, it } from "node:test";
import type { ForkResult, Machine } from "@skep/api";
import { eventually, Installation } from "./support.ts";

let skep: Installation;
before(async () => {
  skep = await Installation.make();
  await skep.skep([
    ...["new", "web", "--image", "tiny", "--memory", "96M", "--cpus", "1"],
    ...["--data-disk", "16M", "-p", "0:7000", "--start", "--wait"],
  ]);
});
after(() => skep[Symbol.asyncDispose]());

async function sh(name: string, script: string): Promise<string> {
  return (await skep.skep(["exec", name, "--", "sh", "-c", script])).stdout.trim();
}

async function names(): Promise<string[]> {
  return (await skep.machines()).map(({ name }) => name);
}

async function fork(...args: string[]): Promise<ForkResult> {
  return JSON.parse((await skep.skep(["fork", "web", ...args, "--json"])).stdout) as ForkResult;
}

/** Of this home, whole or half made: names in /dev/shm. */
async function frozen(): Promise<string[]> {
  const found = [];
  for (const name of await readdir("/dev/shm")) {
    if (!name.startsWith("skep-frozen-")) continue;
    const record = await readFile(join("/dev/shm", name, "record.json"), "utf8").catch(() => "{}");
    if (JSON.parse(record).home === skep.home) found.push(name);
  }
  return found;
}

async function digestOf(path: string): Promise<string> {
  const hash = createHash("sha256");
  await pipeline(createReadStream(path), hash);
  return hash.digest("hex");
}

/** What is said on a port of this host; empty where nobody says anything. */
async function firstLine(port: number): Promise<string> {
  const socket = connect(port, "127.0.0.1");
  socket.setTimeout(5000, () => socket.destroy());
  let said = "";
  socket.setEncoding("utf8").on("data", (text: string) => {
    said += text;
    socket.end();
  });
  socket.on("error", () => {});
  await once(socket, "close");
  return said.trim();
}

function distinct(values: readonly string[]): void {
  assert.equal(new Set(values).size, values.length, values.join(" "));
}

/** What a guest holds, and who it is: its memory's mark, the first line of its disk, and its identity. */
async function look(name: string) {
  const script =
    "cat /tmp/nonce; head -n 1 /dev/vda; hostname; cat /sys/class/net/eth0/address /etc/machine-id; " +
    "od -An -tx1 -N16 /dev/urandom; date +%s";
  const lines = (await sh(name, script)).split("\n");
  const [nonce = "", disk = "", hostname = "", mac = "", machineId = "", drawn = "", clock = ""] = lines;
  return { name, nonce, disk, hostname, mac, machineId, drawn, clock: Number(clock) };
}

/** Only the machine itself is left, as it was, and nothing of any copy. */
async function checkNothingLeft(): Promise<void> {
  assert.deepEqual(await names(), ["web"]);
  const web = await skep.machine("web");
  assert.equal(web.state, "running");
  await eventually(
    async () => (await skep.qemuPids()).length === 1,
    () => "a QEMU of a copy is left",
  );
  const directories = (await readdir(join(skep.home, "machines"))).filter((name) => name !== "web");
  assert.deepEqual(directories, []);
  await eventually(
    async () => (await frozen()).length === 0,
    () => "a frozen machine is left",
  );
  assert.deepEqual(
    (await readdir(skep.runtime)).filter((name) => /^[0-9a-f]{8}$/.test(name)),
    [web.id.slice(0, 8)],
  );
  assert.equal(await sh("web", "echo answers"), "answers");
}

describe("copies of a machine that runs", () => {
  const copies = ["web-1", "web-2", "web-3"];
  let nonce: string;
  let result: ForkResult;
  let machines: Machine[];
  let seen: Awaited<ReturnType<typeof look>>[];

  before(async () => {
    nonce = `nonce-${process.hrtime.bigint()}`;
    await sh("web", `echo ${nonce} >/tmp/nonce; echo before | dd of=/dev/vda conv=notrunc,fsync 2>/dev/null`);
    result = await fork("-n", "3");
    machines = (await skep.machines()).sort((one, other) => one.name.localeCompare(other.name));
    seen = await Promise.all(["web", ...copies].map(look));
  });
  // Where a test has failed they are still there.
  after(() => skep.skep(["rm", "--force", ...copies], { status: null }));

  it("are told of, each with its name, time and identity, and what it cost the machine", () => {
    assert.deepEqual(
      result.copies.map(({ name }) => name),
      copies,
    );
    assert.ok(result.pauseMs !== null && result.pauseMs > 0 && result.populatedMiB > 0);
    for (const { readyMs, identity } of result.copies) {
      assert.ok(readyMs > 0);
      const done = identity.filter(({ outcome }) => outcome === "done").map(({ step }) => step);
      for (const step of ["seed", "clock", "mac", "hostname", "machine-id"])
        assert.ok(done.includes(step), step);
      assert.deepEqual(
        identity.filter(({ outcome }) => outcome === "failed"),
        [],
      );
    }
  });

  it("are where their machine was, not booted", () => {
    for (const { name, ...held } of seen) {
      assert.deepEqual([held.nonce, held.disk], [nonce, "before"], name);
    }
  });

  it("have a name, MAC, machine-id, ports and random numbers of their own", () => {
    assert.deepEqual(
      seen.map(({ hostname, mac }) => [hostname, mac]),
      machines.map(({ name, mac }) => [name, mac]),
    );
    assert.deepEqual(
      seen.slice(1).map(({ machineId }) => machineId),
      machines.slice(1).map(({ id }) => id.replaceAll("-", "")),
    );
    distinct(machines.map(({ mac }) => mac));
    distinct(machines.flatMap(({ ports }) => ports.map(({ hostPort }) => String(hostPort))));
    const [web, ...others] = machines;
    for (const { ports, from } of others) {
      assert.equal(from, "web");
      assert.deepEqual(
        ports.map(({ guestPort }) => guestPort),
        web?.ports.map(({ guestPort }) => guestPort),
      );
    }
    distinct(seen.map(({ drawn }) => drawn));
    for (const { name, clock } of seen) {
      assert.ok(Math.abs(clock - Date.now() / 1000) < 60, `the clock of ${name} says ${clock}`);
    }
  });

  it("do not see each other's writes, nor does the machine, and what they share stays as it is", async () => {
    const [shared = "", ...more] = await frozen();
    assert.deepEqual(more, []);
    const ram = join("/dev/shm", shared, "ram");
    const digest = await digestOf(ram);
    const all = ["web", ...copies];
    const write = (name: string) => {
      // More than a few pages, so that some of it is what was shared.
      const fill = name === "web-1" ? "; dd if=/dev/urandom of=/tmp/fill bs=1M count=8 2>/dev/null" : "";
      const disk = `echo ${name} | dd of=/dev/vda conv=notrunc,fsync 2>/dev/null`;
      return sh(name, `echo ${name} >/tmp/mine; ${disk}${fill}`);
    };
    await Promise.all(all.map(write));
    const held = await Promise.all(all.map((name) => sh(name, "cat /tmp/mine; head -n 1 /dev/vda")));
    assert.deepEqual(
      held,
      all.map((name) => `${name}\n${name}`),
    );
    assert.equal(await digestOf(ram), digest);
  });

  it("are reached through forwards of their own", async () => {
    for (const { name, ports } of machines.slice(1, 3)) {
      await sh(name, `(while :; do echo ${name} | nc -l -p 7000; done) >/dev/null 2>&1 &`);
      const port = ports.find(({ guestPort }) => guestPort === 7000)?.hostPort ?? 0;
      await eventually(
        async () => (await firstLine(port)) === name,
        () => `nothing of ${name} answers on port ${port}`,
      );
    }
  });

  it("are machines like those that booted: one is forked, one stopped and started, one removed", async () => {
    const { copies: deeper } = JSON.parse(
      (await skep.skep(["fork", "web-2", "deep", "--json"])).stdout,
    ) as ForkResult;
    assert.equal(deeper[0]?.name, "deep");
    assert.equal(await sh("deep", "hostname; cat /tmp/mine"), "deep\nweb-2");
    await skep.skep(["rm", "--force", "deep"]);
    await skep.skep(["stop", "--force", "web-3"]);
    await skep.skep(["start", "web-3", "--wait"]);
    assert.equal(
      await sh("web-3", "hostname; head -n 1 /dev/vda; test -e /tmp/nonce || echo booted"),
      "web-3\nweb-3\nbooted",
    );
  });

  it("leave nothing when they are removed", async () => {
    await skep.skep(["rm", "--force", ...copies]);
    await checkNothingLeft();
  });
});

describe("a fork that is refused", () => {
  const refused = async (args: readonly string[], says: RegExp, status = 1) => {
    const { stderr } = await skep.skep(["fork", ...args], { status });
    assert.match(stderr, says);
    assert.deepEqual(await names(), ["web"]);
  };
  afterEach(checkNothingLeft);

  it("because of names or numbers says so, and makes no copy", async () => {
    await skep.skep(["new", "web-2", "--image", "tiny"]);
    const { stderr } = await skep.skep(["fork", "web", "-n", "3"], { status: 1 });
    assert.match(stderr, /there is a machine "web-2" already\n.*--prefix/);
    assert.deepEqual(await names(), ["web", "web-2"]);
    await skep.skep(["rm", "web-2"]);
    await refused(["web", "-n", "0"], /count "0" is not a whole number above 0/, 2);
    await refused(["web", "-n", "1000000"], /count/, 2);
    await refused(["web", "copy", "-n", "2"], /one name does for one copy\n.*--prefix copy/, 2);
    await refused(["web", "UPPER"], /"UPPER"/, 2);
    await refused(["nobody"], /machine "nobody" does not exist/);
  });

  it("for lack of memory tells what it would need", async () => {
    await refused(["web", "-n", "1000"], /no memory for 1000 copies of machine "web": .*93\.8 GiB/);
  });

  it("because of its machine names the next step", async () => {
    await skep.skep(["new", "cold", "--image", "tiny"]);
    try {
      const { stderr } = await skep.skep(["fork", "cold"], { status: 1 });
      assert.match(stderr, /machine "cold" cannot be forked: it is stopped\n.*skep start cold/);
    } finally {
      await skep.skep(["rm", "cold"]);
    }
  });
});

describe("Ctrl-C", () => {
  for (const [when, seen] of [
    ["while the machine is kept", /keeping web as it stands\n/],
    ["while copies are made", /forking web\n/],
  ] as const) {
    it(`${when} leaves no copy`, async () => {
      const { status, stderr } = await skep.interrupted(["fork", "web", "-n", "4"], seen);
      assert.equal(status, 130, stderr);
      assert.match(stderr, /cancelling and undoing/);
      await checkNothingLeft();
    });
  }
});

describe("a guest without a helper", () => {
  it("is not forked, but for copies that keep what is their machine's", async () => {
    await sh("web", "sed -i '/skep-helper/d' /etc/inittab; kill -HUP 1; sleep 1; killall skep-helper; true");
    const { stderr } = await skep.skep(["fork", "web"], { status: 1 });
    assert.match(stderr, /machine "web" cannot be forked: its guest has no helper.*\n.*--no-identity/);
    await checkNothingLeft();
    const { copies } = await fork("--no-identity");
    assert.deepEqual(copies[0]?.identity, []);
    assert.equal(await sh("web-1", "hostname"), "web");
    const { mac } = await skep.machine("web");
    assert.equal((await skep.machine("web-1")).mac, mac);
    assert.equal(await sh("web-1", "cat /sys/class/net/eth0/address"), mac);
    await skep.skep(["rm", "--force", "web-1"]);
    await checkNothingLeft();
  });
});

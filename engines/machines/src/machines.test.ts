import assert from "node:assert/strict";
import { mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, describe, it } from "node:test";
import { quietWork, run } from "@skep/base";
import { freePort } from "@skep/base/testing";
import { ImageStore } from "@skep/images";
import { isRoot } from "./host-user.ts";
import { Machines } from "./machines.ts";

const log = { debug() {}, info() {}, warn() {}, error() {} };
const mib = 1024 ** 2;

let directory: string;
let home: string;
let machines: Machines;

const open = () =>
  Machines.open({
    home,
    runtime: join(directory, "run"),
    images: new ImageStore({ home }),
    log,
    onEvent() {},
  });

beforeEach(async () => {
  directory = await mkdtemp("/tmp/skep-machines-");
  home = join(directory, "home");
  machines = await open();
});

afterEach(async () => {
  await machines.close();
  await rm(directory, { recursive: true, force: true });
});

/** An ISO is the one base that needs no image. */
async function make(name: string) {
  const cdrom = "/etc/hostname";
  return await machines.create({ name, cdrom, diskBytes: 16 * mib, memoryMiB: 64 }, quietWork());
}

const fileOf = async (name: string) =>
  JSON.parse(await readFile(join(home, "machines", name, "machine.json"), "utf8"));

describe("machines", () => {
  it("say at once that a base does not exist, also where it is the new machine itself", async () => {
    const create = machines.create({ name: "a", from: "a" }, quietWork());
    await assert.rejects(create, { code: "MACHINE_NOT_FOUND" });
    await make("a");
  });

  it("do not do what was cancelled while it waited for its turn", async () => {
    const abort = new AbortController();
    await make("a");
    const first = machines.edit("a", { cpus: 3 }, quietWork());
    const removal = machines.remove("a", {}, quietWork(abort.signal));
    abort.abort();
    await assert.rejects(removal, { name: "AbortError" });
    await first;
    assert.equal(machines.get("a").cpus, 3);
  });

  it("do nothing to a machine that was removed while they waited", async () => {
    await make("a");
    const removal = machines.remove("a", {}, quietWork());
    const edit = machines.edit("a", { cpus: 3 }, quietWork());
    await removal;
    await assert.rejects(edit, { code: "MACHINE_NOT_FOUND" });
    assert.deepEqual(await readdir(join(home, "machines")), []);
  });

  it("have users of their own, also those that are made at once", { skip: !isRoot }, async () => {
    await Promise.all(["a", "b", "c"].map(make));
    const uids = await Promise.all(["a", "b", "c"].map(async (name) => (await fileOf(name)).uid));
    assert.equal(new Set(uids).size, 3);
  });

  for (const user of ["root\n  ProxyCommand touch /tmp/x", "-oProxyCommand=x", ""]) {
    it(`refuse the user ${JSON.stringify(user)}, which would end in ssh's configuration`, async () => {
      await make("a");
      await assert.rejects(machines.edit("a", { user }, quietWork()), { code: "MACHINE_INVALID" });
      assert.ok(!machines.sshConfig().includes("ProxyCommand"));
    });
  }

  for (const hostAddress of ["localhost", "::1", "", "127.0.0.1,id=x", "127.0.0.1 x"]) {
    it(`refuse to publish on ${JSON.stringify(hostAddress)}, which QEMU would not understand`, async () => {
      await make("a");
      const port = { hostAddress, hostPort: 0, guestPort: 80 };
      await assert.rejects(machines.addPort("a", port), { code: "PORT_ADDRESS" });
    });
  }

  it("are never given one port of this host, also where both ask at once", async () => {
    await make("a");
    await make("b");
    const hostPort = await freePort();
    const asked = ["a", "b"].map((name) => machines.addPort(name, { hostPort, guestPort: 80 }));
    const [one, other] = (await Promise.allSettled(asked)).sort((left) =>
      left.status === "fulfilled" ? -1 : 1,
    );
    assert.equal(one?.status, "fulfilled");
    assert.equal((other as PromiseRejectedResult).reason.code, "PORT_DOUBLE");
    const given = ["a", "b"].flatMap((name) =>
      machines.get(name).ports.filter((port) => port.hostPort === hostPort),
    );
    assert.equal(given.length, 1);
  });

  it("keep what a damaged machine stands on, until it is mended", async () => {
    await make("a");
    await machines.create({ name: "b", from: "a" }, quietWork());
    const path = join(home, "machines/b/machine.json");
    const whole = await readFile(path, "utf8");
    await writeFile(path, whole.slice(0, 200));
    await machines.close();
    machines = await open();
    await machines.remove("a", {}, quietWork());
    await writeFile(path, whole);
    await machines.close();
    machines = await open();
    assert.equal(machines.get("b").state, "stopped");
    await run("qemu-img", ["check", "-q", join(home, "machines/b/disk.qcow2")]);
    await run("qemu-img", ["map", join(home, "machines/b/disk.qcow2")]);
    await machines.remove("b", {}, quietWork());
    assert.deepEqual(await readdir(join(home, "layers")), []);
  });

  it("count an image as used that only a damaged machine's files name", async () => {
    const digest = "0123456789abcdef".repeat(4);
    await mkdir(join(home, "machines/b"));
    const disk = join(home, "machines/b/disk.qcow2");
    const base = join(home, "images", digest, "disk.raw");
    await run("qemu-img", ["create", "-q", "-f", "qcow2", "-u", "-b", base, "-F", "raw", disk, "1M"]);
    await machines.close();
    machines = await open();
    assert.deepEqual(machines.usedImages().get(`sha256:${digest}`), ["b"]);
  });

  it("grow a disk without touching what its header names", { skip: !isRoot }, async () => {
    await make("a");
    const precious = join(directory, "precious");
    await writeFile(precious, "precious", { mode: 0o600 });
    const disk = join(home, "machines/a/disk.qcow2");
    const { uid } = await fileOf("a");
    await rm(disk);
    const options = `data_file=${precious},data_file_raw=on`;
    // qemu-img would empty the file that it makes the data file: made elsewhere, and moved there.
    await run("qemu-img", ["create", "-q", "-f", "qcow2", "-o", options, disk, String(16 * mib)]);
    await run("chown", [`${uid}:${uid}`, disk]);
    await writeFile(precious, "precious");
    await assert.rejects(machines.edit("a", { diskBytes: 32 * mib }, quietWork()));
    assert.equal((await stat(precious)).size, "precious".length);
  });
});

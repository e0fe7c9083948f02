/** The memory of a running guest is frozen with its disks, and a copy goes on from there in memory that it borrows. */
import assert from "node:assert/strict";
import { hash } from "node:crypto";
import { chmod, chown, mkdir, readdir, readFile, rm, stat } from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { newStateId } from "@skep/arks";
import { processStartTime, quietWork, run } from "@skep/base";
import {
  abandonFork,
  allocateGroup,
  commitDiskFreeze,
  createFork,
  type DiskLayers,
  finishFork,
  frozenDirectory,
  frozenRam,
  holdLayers,
  type LiveMachine,
  launchIncoming,
  type Machine,
  memoryDirectory,
  prepareDiskFreeze,
} from "@skep/machines";
import { connectUnix } from "@skep/qmp";
import { FrozenGuest, whileStopped } from "./frozen-guest.ts";

const name = "web";
const isRoot = process.getuid?.() === 0;

describe("the memory and the disks of a running guest", { skip: process.platform !== "linux" }, () => {
  const id = newStateId();
  let guest: FrozenGuest;
  let device: Buffer;
  let layers: DiskLayers;
  let source: Machine["file"];
  let gid: number | null;
  let ramDigest: string;

  /** By hand, what engines/arks does. */
  async function saveDevices(live: LiveMachine): Promise<Buffer> {
    const path = join(live.machine.runtime.directory, "test.sock");
    const server = createServer().listen(path);
    try {
      await new Promise((resolve) => server.once("listening", resolve));
      if (live.machine.file.uid !== null) await chown(path, live.machine.file.uid, live.machine.file.uid);
      const stream = new Promise<Buffer>((resolve) =>
        server.once("connection", async (socket) => {
          const parts: Buffer[] = [];
          for await (const part of socket) parts.push(part);
          resolve(Buffer.concat(parts));
        }),
      );
      const capabilities = [{ capability: "x-ignore-shared", state: true }];
      await live.qmp.execute("migrate-set-capabilities", { capabilities });
      await live.qmp.execute("migrate-set-parameters", { "max-bandwidth": 2 ** 36 });
      await live.qmp.execute("migrate", { uri: `unix:${path}` });
      return await stream;
    } finally {
      server.close();
    }
  }

  async function load(live: LiveMachine): Promise<void> {
    const path = join(live.machine.runtime.qemu, "incoming.sock");
    const capabilities = ["x-ignore-shared", "events"].map((capability) => ({ capability, state: true }));
    await live.qmp.execute("migrate-set-capabilities", { capabilities });
    const end = live.qmp.nextEvent(
      ({ event, data }) => event === "MIGRATION" && ["completed", "failed"].includes(String(data.status)),
      { timeoutMs: 60_000 },
    );
    await live.qmp.execute("migrate-incoming", { uri: `unix:${path}` });
    const socket = await connectUnix(path, 10_000, new AbortController().signal);
    socket.end(device);
    assert.equal((await end).data.status, "completed");
  }

  async function fork(copy: string): Promise<Machine> {
    const { context } = await guest.machine();
    const from = { source, layers, hostKeys: ["ssh-ed25519 AAAA"] };
    const made = await createFork(context, copy, from, quietWork());
    await launchIncoming(made, quietWork(), {
      memory: { frozen: id, gid },
      load: async (live) => {
        await load(live);
        await live.qmp.execute("cont");
      },
    });
    return made;
  }

  const ramNow = async () => hash("sha256", await readFile(frozenRam(id)), "hex");

  before(async () => {
    guest = await FrozenGuest.make();
    await guest.writeAt("vda", "forked");
    await guest.sh("echo here >/tmp/mark");
    gid = allocateGroup(new Set());
    await mkdir(frozenDirectory(id), { mode: 0o711 });
    await guest.within(async (it) => {
      const live = it.running();
      const prepared = await prepareDiskFreeze(live);
      await whileStopped(live, async () => {
        device = await saveDevices(live);
        const ram = join(memoryDirectory(it.file.id), "ram");
        await run("cp", ["--sparse=always", ram, frozenRam(id)]);
        await commitDiskFreeze(live, prepared);
      });
      layers = prepared.layers;
      source = it.file;
    });
    if (gid !== null) {
      await chown(frozenRam(id), 0, gid);
      await chmod(frozenRam(id), 0o660);
    }
    ramDigest = await ramNow();
  });

  after(async () => {
    await guest?.[Symbol.asyncDispose]();
    await rm(frozenDirectory(id), { recursive: true, force: true });
  });

  it("serve a copy that goes on where the guest was, and change by nothing that it does", async () => {
    const copy = await fork("web-1");
    assert.equal(copy.state, "starting");
    assert.deepEqual([...guest.machines.borrowed()], [id]);
    await finishFork(copy);
    assert.equal(copy.state, "running");
    assert.equal(copy.live?.frozen, id);
    assert.equal(await guest.sh("cat /tmp/mark", "web-1"), "here");
    await guest.sh(
      "echo there >/tmp/mark; dd if=/dev/urandom of=/tmp/filled bs=1M count=4 2>/dev/null",
      "web-1",
    );
    await guest.writeAt("vda", "copied", "web-1");
    await guest.sh("echo still >/tmp/mark");
    await guest.writeAt("vda", "original");
    assert.equal(await guest.readAt("vda", "web-1"), "copied");
    assert.equal(await guest.readAt("vda"), "original");
    assert.equal(await guest.sh("cat /tmp/mark", "web-1"), "there");
    assert.equal(await guest.sh("cat /tmp/mark"), "still");
    assert.equal(await guest.contentOf(layers.dataDisks[0]), "forked");
    assert.equal(await ramNow(), ramDigest);
    const view = guest.machines.get("web-1");
    assert.equal(view.from, name);
    assert.notEqual(view.mac, guest.machines.get(name).mac);
    assert.notEqual(copy.file.id, source.id);
    if (isRoot) {
      const uids = [copy.file.uid, source.uid];
      assert.equal(new Set(uids).size, 2);
      const status = await readFile(`/proc/${view.pid}/status`, "utf8");
      assert.match(status, new RegExp(`^Uid:\\t${copy.file.uid}\\t.*\\nGid:\\t${copy.file.uid}\\t`, "m"));
      assert.match(status, new RegExp(`^Groups:\\t${gid} *$`, "m"));
    }
    const known = await readFile(copy.paths.knownHosts, "utf8");
    assert.equal(known, "web-1.skep ssh-ed25519 AAAA\n");
  });

  it("are borrowed still after a restart of skepd, and let go when the copy ends, which then boots by itself", async () => {
    await guest.reopen();
    assert.equal(guest.machines.get("web-1").state, "running");
    assert.deepEqual([...guest.machines.borrowed()], [id]);
    await guest.machines.stop("web-1", { force: true }, quietWork());
    assert.deepEqual(guest.unused, [id]);
    assert.equal(await ramNow(), ramDigest);
    await guest.machines.start("web-1", {}, quietWork());
    assert.deepEqual([...guest.machines.borrowed()], []);
    assert.equal((await stat(memoryDirectory(guest.machines.get("web-1").id))).isDirectory(), true);
    await guest.machines.stop("web-1", { force: true }, quietWork());
    const disk = "machines/web-1/data-0.qcow2";
    assert.equal(await guest.contentOf({ path: disk, format: "qcow2" }), "copied");
    await guest.machines.remove("web-1", { force: true }, quietWork());
    assert.ok((await guest.layersLeft()) > 0);
  });

  it("lose nothing where QEMU dies after it is recorded what they stand on", async () => {
    await finishFork(await fork("web-4"));
    await guest.writeAt("vda", "recorded", "web-4");
    const lost = await guest.loseQemu("web-4", true);
    const own = { path: "machines/web-4/data-0.qcow2", format: "qcow2" } as const;
    for (const layer of [lost.dataDisks[0], own]) assert.equal(await guest.contentOf(layer), "recorded");
    await guest.machines.remove("web-4", { force: true }, quietWork());
  });

  it("leave nothing of a copy that was not finished, neither now nor at the next start of skepd", async () => {
    const { context } = await guest.machine();
    const free = await holdLayers(context, layers);
    const given = await fork("web-2");
    const { pid } = given.running().process;
    await abandonFork(given);
    assert.deepEqual(await readdir(join(guest.skep.home, "machines")), [name]);
    assert.equal(processStartTime(pid), undefined);
    const late = await fork("web-3");
    const { pid: stray } = late.running().process;
    free();
    await guest.reopen();
    assert.deepEqual(await readdir(join(guest.skep.home, "machines")), [name]);
    assert.equal(processStartTime(stray), undefined);
    assert.equal(await ramNow(), ramDigest);
    assert.equal(await guest.readAt("vda"), "original");
  });

  it("are refused to a copy whose name is taken", async () => {
    const { context } = await guest.machine();
    const from = { source, layers, hostKeys: [] };
    await assert.rejects(createFork(context, name, from, quietWork()), { code: "MACHINE_EXISTS" });
    await assert.rejects(createFork(context, "../up", from, quietWork()), { code: "NAME_INVALID" });
    assert.deepEqual(await readdir(join(guest.skep.home, "machines")), [name]);
  });
});

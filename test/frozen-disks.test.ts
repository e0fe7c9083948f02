/** The disks of a running guest are frozen under it, and a copy goes on from there in memory that it borrows. */
import assert from "node:assert/strict";
import { hash } from "node:crypto";
import { chmod, chown, mkdir, readdir, readFile, rm, stat } from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { after, before, describe, it } from "node:test";
import { processStartTime, quietWork, run } from "@skep/base";
import { ImageStore } from "@skep/images";
import {
  abandonDiskFreeze,
  abandonFork,
  allocateGroup,
  commitDiskFreeze,
  createFork,
  type DiskBase,
  type DiskFreeze,
  type DiskLayers,
  finishFork,
  freezeDisksAtRest,
  frozenDirectory,
  frozenRam,
  holdLayers,
  type LiveMachine,
  launchIncoming,
  type Machine,
  Machines,
  memoryDirectory,
  prepareDiskFreeze,
} from "@skep/machines";
import { connectUnix } from "@skep/qmp";
import { eventually, Installation } from "./support.ts";

const name = "web";
const log = { debug() {}, info() {}, warn() {}, error() {} };
const isRoot = process.getuid?.() === 0;

describe("disks of a running guest", { skip: process.platform !== "linux" }, () => {
  let skep: Installation;
  let machines: Machines;
  const unused: string[] = [];

  const open = async () => {
    machines = await Machines.open({
      home: skep.home,
      runtime: skep.runtime,
      images: new ImageStore({ home: skep.home }),
      frozenUnused: async (id) => void unused.push(id),
      log,
      onEvent() {},
    });
  };

  before(async () => {
    skep = await Installation.make();
    await mkdir(skep.runtime, { recursive: true, mode: 0o711 });
    await open();
    const dataDisks = [{ sizeBytes: 16 * 1024 ** 2 }, { sizeBytes: 16 * 1024 ** 2 }];
    const request = { name, image: "tiny", memoryMiB: 96, cpus: 1, dataDisks, start: true, wait: true };
    await machines.create(request, quietWork());
  });

  after(async () => {
    await machines?.close();
    await skep?.[Symbol.asyncDispose]();
  });

  const within = <T>(work: (machine: Machine) => Promise<T>) => machines.withMachine(name, work);
  const machine = () => within(async (it) => it);

  async function sh(script: string, on = name): Promise<string> {
    const session = await machines.exec(on, { command: ["sh", "-c", script] });
    session.stdin.end();
    const [output, errors, status] = await Promise.all([
      text(session.stdout),
      text(session.stderr),
      session.exit,
    ]);
    assert.equal(status, 0, `${script}: ${errors}`);
    return output.trim();
  }

  const writeAt = (disk: string, words: string, on = name) =>
    sh(`echo ${words} | dd of=/dev/${disk} conv=notrunc,fsync 2>/dev/null`, on);
  const readAt = (disk: string, on = name) =>
    sh(`echo 3 >/proc/sys/vm/drop_caches; head -n 1 /dev/${disk}`, on);

  /** What a frozen disk holds, read without any guest. */
  async function contentOf(layer: DiskBase | null | undefined): Promise<string> {
    assert.ok(layer);
    const out = join(skep.home, "content.raw");
    const path = join(skep.home, layer.path);
    await run("qemu-img", [
      "dd",
      "-U",
      "-f",
      "qcow2",
      "-O",
      "raw",
      "bs=512",
      "count=1",
      `if=${path}`,
      `of=${out}`,
    ]);
    const [line = ""] = (await readFile(out, "latin1")).split("\n");
    await rm(out);
    return line;
  }

  async function digest(layer: DiskBase | null | undefined): Promise<string> {
    return hash("sha256", await readFile(join(skep.home, layer?.path ?? "")), "hex");
  }

  async function whileStopped<T>(live: LiveMachine, work: () => Promise<T>): Promise<T> {
    await live.qmp.execute("stop");
    try {
      return await work();
    } finally {
      if (live.alive) await live.qmp.execute("cont");
    }
  }

  async function freeze(): Promise<DiskLayers> {
    return await within(async (it) => {
      const live = it.running();
      const prepared = await prepareDiskFreeze(live);
      await whileStopped(live, () => commitDiskFreeze(live, prepared));
      return prepared.layers;
    });
  }

  /** What of a freeze is there beside the disks themselves. */
  async function leftovers(of: string): Promise<string[]> {
    const names = await readdir(join(skep.home, "machines", of));
    return names.filter((file) => /\.(new|next)$/.test(file) || /^(root|data-\d)-/.test(file));
  }

  async function layersLeft(): Promise<number> {
    return (await readdir(join(skep.home, "layers"))).filter((file) => file.endsWith(".qcow2")).length;
  }

  /** The half of a commit that QEMU does. */
  const transaction = (live: LiveMachine, { disks }: DiskFreeze) =>
    live.qmp.execute("transaction", {
      actions: disks.map(({ under, node }) => ({
        type: "blockdev-snapshot" as const,
        data: { node: under, overlay: node },
      })),
    });

  it("become layers that are whole and never change again, while the guest goes on writing, time and again", async () => {
    await writeAt("vda", "one");
    await sh(
      "(i=0; while :; do i=$((i + 1)); echo $i | dd of=/dev/vdb conv=notrunc,fsync; done) >/dev/null 2>&1 &",
    );
    const first = await freeze();
    assert.equal(first.disk, null);
    const counted = Number(await contentOf(first.dataDisks[1]));
    const before = await Promise.all(first.dataDisks.map(digest));
    await writeAt("vda", "two");
    const second = await freeze();
    await writeAt("vda", "three");
    await eventually(
      async () => Number(await readAt("vdb")) > counted + 5,
      () => "the guest does not write any more",
    );
    const third = await freeze();
    await writeAt("vda", "four");
    assert.equal(await contentOf(first.dataDisks[0]), "one");
    assert.equal(await contentOf(second.dataDisks[0]), "two");
    assert.equal(await contentOf(third.dataDisks[0]), "three");
    assert.equal(await readAt("vda"), "four");
    assert.deepEqual(await Promise.all(first.dataDisks.map(digest)), before);
    for (const layer of [...first.dataDisks, ...second.dataDisks, ...third.dataDisks]) {
      const path = join(skep.home, layer?.path ?? "");
      await run("qemu-img", ["check", "-q", "-f", "qcow2", path]);
      assert.equal((await stat(path)).mode & 0o777, 0o444);
    }
    const { file } = await machine();
    assert.deepEqual(
      file.dataDisks.map(({ base }) => base),
      third.dataDisks,
    );
    await sh("kill $(pgrep -f 'i=0; while') 2>/dev/null; true");
  });

  it("are as they were where it is given up before it is committed", async () => {
    const before = (await machine()).file;
    const layers = await layersLeft();
    await within(async (it) => {
      const live = it.running();
      await prepareDiskFreeze(live);
      assert.equal(await layersLeft(), layers + 2);
      await abandonDiskFreeze(live);
      await assert.rejects(prepareDiskFreeze(live, AbortSignal.abort()));
    });
    assert.equal(await layersLeft(), layers);
    assert.deepEqual((await machine()).file, before);
    await writeAt("vda", "five");
    assert.equal(await readAt("vda"), "five");
  });

  it("are brought in order by the next skepd, at whatever point the last one was killed", async () => {
    const restart = async () => {
      await machines.close();
      await open();
    };
    const steps: [string, (live: LiveMachine, prepared: DiskFreeze) => Promise<unknown>, boolean][] = [
      ["prepared", async () => {}, false],
      ["stopped", (live) => live.qmp.execute("stop"), false],
      [
        "transaction",
        async (live, prepared) => {
          await live.qmp.execute("stop");
          await transaction(live, prepared);
        },
        true,
      ],
    ];
    for (const [step, reach, isFrozen] of steps) {
      await writeAt("vda", `before-${step}`);
      const { layers } = await within(async (it) => {
        const prepared = await prepareDiskFreeze(it.running());
        await reach(it.running(), prepared);
        return prepared;
      });
      await restart();
      assert.equal(machines.get(name).state, "running", step);
      const { file, run } = await machine();
      assert.equal(run?.freezing, null, step);
      const isBase = file.dataDisks[0]?.base?.path === layers.dataDisks[0]?.path;
      assert.equal(isBase, isFrozen, step);
      await writeAt("vda", `after-${step}`);
      assert.equal(await readAt("vda"), `after-${step}`);
      if (isFrozen) assert.equal(await contentOf(layers.dataDisks[0]), `before-${step}`);
    }
  });

  /** QEMU dies between the transaction and the guest's going on. */
  async function loseQemu(copy: string, recorded: boolean): Promise<DiskLayers> {
    return await machines.withMachine(copy, async (it) => {
      const live = it.running();
      const prepared = await prepareDiskFreeze(live);
      await live.qmp.execute("stop");
      await transaction(live, prepared);
      const { dataDisks } = prepared.layers;
      if (recorded) {
        const standOn = (disk: { sizeBytes: number }, index: number) => ({
          ...disk,
          base: dataDisks[index] ?? null,
        });
        await it.save((file) => ({ dataDisks: file.dataDisks.map(standOn) }));
      }
      process.kill(live.process.pid, "SIGKILL");
      await abandonDiskFreeze(live);
      assert.equal(it.state, "stopped");
      assert.deepEqual(await leftovers(copy), []);
      return prepared.layers;
    });
  }

  it("lose nothing where QEMU dies before that is recorded, nor where they are frozen at rest", async () => {
    await writeAt("vda", "power");
    const layers = await layersLeft();
    await loseQemu(name, false);
    assert.equal(await layersLeft(), layers);
    const frozen = await within(freezeDisksAtRest);
    assert.equal(await contentOf(frozen.dataDisks[0]), "power");
    await machines.start(name, { wait: true }, quietWork());
    assert.equal(await readAt("vda"), "power");
    await writeAt("vda", "more");
    assert.equal(await contentOf(frozen.dataDisks[0]), "power");
  });

  describe("and its memory", () => {
    const id = "st-0123456789abcdef0";
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

    async function fork(copy: string, dataDisks = layers): Promise<Machine> {
      const { context } = await machine();
      const made = await createFork(
        context,
        copy,
        { source, layers: dataDisks, hostKeys: ["ssh-ed25519 AAAA"] },
        quietWork(),
      );
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
      await writeAt("vda", "forked");
      await sh("echo here >/tmp/mark");
      gid = allocateGroup(new Set());
      await mkdir(frozenDirectory(id), { mode: 0o711 });
      await within(async (it) => {
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

    after(() => rm(frozenDirectory(id), { recursive: true, force: true }));

    it("serve a copy that goes on where the guest was, and change by nothing that it does", async () => {
      const copy = await fork("web-1");
      assert.equal(copy.state, "starting");
      assert.deepEqual([...machines.borrowed()], [id]);
      await finishFork(copy);
      assert.equal(copy.state, "running");
      assert.equal(copy.live?.frozen, id);
      assert.equal(await sh("cat /tmp/mark", "web-1"), "here");
      await sh("echo there >/tmp/mark; dd if=/dev/urandom of=/tmp/filled bs=1M count=4 2>/dev/null", "web-1");
      await writeAt("vda", "copied", "web-1");
      await sh("echo still >/tmp/mark");
      await writeAt("vda", "original");
      assert.equal(await readAt("vda", "web-1"), "copied");
      assert.equal(await readAt("vda"), "original");
      assert.equal(await sh("cat /tmp/mark", "web-1"), "there");
      assert.equal(await sh("cat /tmp/mark"), "still");
      assert.equal(await contentOf(layers.dataDisks[0]), "forked");
      assert.equal(await ramNow(), ramDigest);
      const view = machines.get("web-1");
      assert.equal(view.from, name);
      assert.notEqual(view.mac, machines.get(name).mac);
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
      await machines.close();
      await open();
      assert.equal(machines.get("web-1").state, "running");
      assert.deepEqual([...machines.borrowed()], [id]);
      await machines.stop("web-1", { force: true }, quietWork());
      assert.deepEqual(unused, [id]);
      assert.equal(await ramNow(), ramDigest);
      await machines.start("web-1", {}, quietWork());
      assert.deepEqual([...machines.borrowed()], []);
      assert.equal((await stat(memoryDirectory(machines.get("web-1").id))).isDirectory(), true);
      await machines.stop("web-1", { force: true }, quietWork());
      const disk = "machines/web-1/data-0.qcow2";
      assert.equal(await contentOf({ path: disk, format: "qcow2" }), "copied");
      await machines.remove("web-1", { force: true }, quietWork());
      assert.ok((await layersLeft()) > 0);
    });

    it("lose nothing where QEMU dies after it is recorded what they stand on", async () => {
      await finishFork(await fork("web-4"));
      await writeAt("vda", "recorded", "web-4");
      const lost = await loseQemu("web-4", true);
      for (const layer of [
        lost.dataDisks[0],
        { path: "machines/web-4/data-0.qcow2", format: "qcow2" } as const,
      ]) {
        assert.equal(await contentOf(layer), "recorded");
      }
      await machines.remove("web-4", { force: true }, quietWork());
    });

    it("leave nothing of a copy that was not finished, neither now nor at the next start of skepd", async () => {
      const { context } = await machine();
      const free = holdLayers(context, layers);
      const given = await fork("web-2");
      const { pid } = given.running().process;
      await abandonFork(given);
      assert.deepEqual(await readdir(join(skep.home, "machines")), [name]);
      assert.equal(processStartTime(pid), undefined);
      const late = await fork("web-3");
      const { pid: stray } = late.running().process;
      free();
      await machines.close();
      await open();
      assert.deepEqual(await readdir(join(skep.home, "machines")), [name]);
      assert.equal(processStartTime(stray), undefined);
      assert.equal(await ramNow(), ramDigest);
      assert.equal(await readAt("vda"), "original");
    });

    it("are refused to a copy whose name is taken", async () => {
      const { context } = await machine();
      const from = { source, layers, hostKeys: [] };
      await assert.rejects(createFork(context, name, from, quietWork()), { code: "MACHINE_EXISTS" });
      await assert.rejects(createFork(context, "../up", from, quietWork()), { code: "NAME_INVALID" });
      assert.deepEqual(await readdir(join(skep.home, "machines")), [name]);
    });
  });

  it("go with the machines that stand on them", async () => {
    await machines.remove(name, { force: true }, quietWork());
    assert.equal(await layersLeft(), 0);
  });
});

import assert from "node:assert/strict";
import { readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, afterEach, before, describe, it } from "node:test";
import { quietWork } from "@skep/base";
import { QmpClient } from "@skep/qmp";
import { useBench, verbsOf } from "./machine-volumes.ts";
import { eventually } from "./support.ts";

const mib = 1024 ** 2;
const work = quietWork();

const bench = useBench();

const { machine, attach, detach, servedIds } = verbsOf(bench);
const fileOf = (name: string) => join(bench().skep.home, "machines", name, "machine.json");

describe("a volume of a stopped machine", () => {
  let id = "";
  before(async () => {
    ({ id } = await bench().volumes.create({ sizeBytes: 16 * mib }));
    await bench().tiny("cold", { start: false, volumes: [{ volume: id }] });
  });
  after(() => bench().machines.remove("cold", { force: true }, work));

  it("is there with the next start, and free when the machine has stopped", async () => {
    assert.deepEqual(servedIds(), []);
    await bench().machines.start("cold", { wait: true }, work);
    assert.deepEqual(servedIds(), [id]);
    await bench().sh("cold", `echo hello > ${await bench().disk("cold", id)}; sync`);
    await bench().machines.stop("cold", {}, work);
    assert.deepEqual(servedIds(), []);
    assert.equal((await readFile(bench().volumes.path(id), "latin1")).slice(0, 6), "hello\n");
  });

  it("is detached and attached without the machine being started", async () => {
    await detach("cold", id);
    assert.deepEqual(machine("cold").volumes, []);
    await attach("cold", id);
    assert.equal(machine("cold").volumes[0]?.id, id);
    assert.deepEqual(servedIds(), []);
  });

  it("is released when the start fails", async () => {
    bench().volumes.broken.add(id);
    await assert.rejects(bench().machines.start("cold", {}, work), { code: "QEMU_FAILED" });
    bench().volumes.broken.delete(id);
    assert.deepEqual([machine("cold").state, servedIds()], ["stopped", []]);
  });

  it("stays when the machine is removed", async () => {
    const notes: string[] = [];
    await bench().tiny("gone", { start: false });
    await detach("cold", id);
    await attach("gone", id);
    await bench().machines.remove("gone", {}, { ...work, note: (note) => notes.push(note) });
    assert.deepEqual(notes, [`kept: ${id}`]);
    assert.ok(bench().volumes.ids.includes(id));
    assert.equal(bench().machines.machineOf(id), undefined);
  });
});

describe("a full store", () => {
  it("pauses the guest until there is room", async () => {
    const { id } = await bench().volumes.create({ sizeBytes: mib });
    await bench().tiny("full", { volumes: [{ volume: id }] });
    const disk = await bench().disk("full", id);
    await bench().volumes.setFull(true);
    const writing = bench().sh("full", `echo hello > ${disk}; sync`);
    const pauses = () =>
      bench().states.filter(({ subject, data }) => {
        return subject === "full" && (data as { reason: string | null }).reason === "disk full";
      });
    await eventually(
      () => pauses().length >= 3, // it is tried again, and again
      () => `it is ${machine("full").state}`,
    );
    await bench().volumes.setFull(false);
    await writing;
    assert.equal(machine("full").state, "running");
    assert.equal((await readFile(bench().volumes.path(id), "latin1")).slice(0, 6), "hello\n");
    await bench().machines.remove("full", { force: true }, work);
  });
});

describe("when skepd dies", () => {
  let id = "";
  before(async () => {
    ({ id } = await bench().volumes.create({ sizeBytes: 16 * mib }));
    await bench().tiny("crash", {});
  });
  afterEach(() =>
    bench()
      .machines.remove("crash", { force: true }, work)
      .catch(() => undefined),
  );

  const settled = () => bench().machines.edit("crash", {}, work); // waits for its turn
  const claimed = { role: "data", readOnly: false, sizeBytes: 16 * mib, slot: 3 };
  async function killedWith(volumes: object[], node?: string): Promise<void> {
    await bench().machines.close();
    if (node !== undefined) {
      const qemu = join(bench().skep.runtime, machine("crash").id.slice(0, 8), "qemu");
      await using qmp = await QmpClient.connect(join(qemu, "qmp.sock"));
      await qmp.execute("blockdev-add", { driver: "null-co", "node-name": node });
    }
    const file = JSON.parse(await readFile(fileOf("crash"), "utf8"));
    await writeFile(fileOf("crash"), JSON.stringify({ ...file, volumes }));
    await bench().reopen();
    await settled();
  }

  it("what was half attached is attached, what was half detached is detached", async () => {
    await killedWith([{ ...claimed, id, detaching: false }]);
    await bench().disk("crash", id);
    assert.deepEqual([machine("crash").volumes[0]?.slot, servedIds()], [3, [id]]);
    await detach("crash", id);
    await killedWith([{ ...claimed, id, detaching: true }]);
    assert.deepEqual([machine("crash").volumes, servedIds()], [[], []]);
    await killedWith([{ ...claimed, id, detaching: false }], id);
    await bench().disk("crash", id);
    await detach("crash", id);

    await attach("crash", id);
    process.kill(machine("crash").pid as number, "SIGKILL");
    await eventually(
      () => machine("crash").state === "stopped",
      () => "QEMU never ended",
    );
    assert.deepEqual(servedIds(), []);
  });

  it("and the guest with it, its volumes are released", async () => {
    await bench().tiny("crash", { volumes: [{ volume: id }] });
    const pid = machine("crash").pid as number;
    await bench().machines.close();
    process.kill(pid, "SIGKILL");
    await eventually(
      async () => !(await bench().skep.qemuPids()).includes(pid),
      () => "QEMU never ended",
    );
    assert.deepEqual(servedIds(), [id]);
    await bench().reopen();
    await settled();
    assert.deepEqual(servedIds(), []);
  });
});

describe("a machine's file", () => {
  it("without volumes, as an older skepd wrote it, is read", async () => {
    await bench().tiny("old", { start: false });
    const { volumes: _, ...file } = JSON.parse(await readFile(fileOf("old"), "utf8"));
    await writeFile(fileOf("old"), JSON.stringify(file));
    await bench().reopen();
    assert.deepEqual(machine("old").volumes, []);
    await bench().machines.remove("old", {}, work);
  });

  it("that is damaged keeps its volumes from others", async () => {
    const { id } = await bench().volumes.create({ sizeBytes: mib });
    await bench().tiny("torn", { start: false, volumes: [{ volume: id }] });
    await bench().tiny("other", { start: false });
    const whole = await readFile(fileOf("torn"), "utf8");
    await writeFile(fileOf("torn"), whole.slice(0, whole.indexOf(id) + id.length + 5));
    await bench().reopen();
    assert.equal(machine("torn").state, "damaged");
    await assert.rejects(attach("other", id), { code: "VOLUME_ATTACHED", message: /machine "torn"/ });
    await bench().machines.remove("torn", { force: true }, work);
    await attach("other", id);
    await bench().machines.remove("other", {}, work);
  });

  for (const [what, change] of [
    ["an id that is none", { id: "vol-0,file=/etc/shadow" }],
    ["a slot that is none", { slot: 99 }],
    ["a role that is none", { role: "x" }],
  ] as const) {
    it(`that names a volume with ${what} is damaged`, async () => {
      const { id } = await bench().volumes.create({ sizeBytes: mib });
      await bench().tiny("torn", { start: false, volumes: [{ volume: id }] });
      const file = JSON.parse(await readFile(fileOf("torn"), "utf8"));
      file.volumes = [{ ...file.volumes[0], ...change }];
      await writeFile(fileOf("torn"), JSON.stringify(file));
      await bench().reopen();
      assert.equal(machine("torn").state, "damaged");
      await bench().machines.remove("torn", { force: true }, work);
      assert.deepEqual((await readdir(join(bench().skep.home, "machines"))).includes("torn"), false);
    });
  }
});

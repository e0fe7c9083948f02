import assert from "node:assert/strict";
import { mkdir, readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, it } from "node:test";
import type { MachineRequest } from "@skep/api/schemas";
import { quietWork, writeVersionedJson } from "@skep/base";
import { bootDisk, importHello, useBench } from "./machine-volumes.ts";
import { eventually } from "./support.ts";

const mib = 1024 ** 2;
const work = quietWork();

const bench = useBench(importHello);

const create = (name: string, more: Partial<MachineRequest>) =>
  bench().machines.create({ name, image: "hello", memoryMiB: 64, cpus: 1, ...more }, work);
const machine = (name: string) => bench().machines.get(name);
const machineDirectories = () => readdir(join(bench().skep.home, "machines"));

describe("a machine whose disk is a volume", () => {
  let id = "";

  it("has no disk file, and its volume is as large as was asked for and filled from the image", async () => {
    await create("root", { rootVolume: {}, diskBytes: 3 * mib });
    const [volume] = machine("root").volumes;
    assert.ok(volume?.role === "root" && volume.sizeBytes === 3 * mib && volume.slot === null);
    assert.equal(machine("root").diskBytes, 3 * mib);
    id = volume.id;
    assert.deepEqual((await readdir(machine("root").directory)).sort(), ["machine.json", "seed.iso"]);
    const content = await readFile(bench().volumes.path(id));
    assert.deepEqual(content.subarray(0, 2 * mib), bootDisk());
    assert.equal(content.length, 3 * mib);
  });

  it("boots from it, and writes to it", async () => {
    await bench().machines.start("root", {}, work);
    await eventually(
      async () =>
        (await readFile(join(machine("root").directory, "console.log"), "utf8")).includes("volume boots"),
      () => "it never booted",
    );
    await eventually(
      async () => (await readFile(bench().volumes.path(id))).readUInt16LE(1024 + 510) === 0xaa55,
      () => "it never wrote",
    );
  });

  it("keeps it as long as it is there, and says where it can be grown", async () => {
    const detach = bench().machines.detachVolume("root", id, { force: true }, work);
    await assert.rejects(detach, { code: "VOLUME_BELONGS", message: /is the root volume of machine "root"/ });
    await assert.rejects(bench().machines.edit("root", { diskBytes: 8 * mib }, work), {
      code: "MACHINE_INVALID",
      hint: new RegExp(`skep vol resize ${id} 8MiB`),
    });
  });

  it("is no base for others, who could not read it", async () => {
    await bench().machines.stop("root", { force: true }, work);
    await assert.rejects(create("copy", { image: undefined, from: "root" } as Partial<MachineRequest>), {
      code: "BASE_ON_VOLUME",
    });
  });

  it("has no copy of its volumes in what is made from it, and that is said", async () => {
    const { id: data } = await bench().volumes.create({ sizeBytes: mib });
    await create("base", { volumes: [{ volume: data }] });
    const notes: string[] = [];
    const listening = { ...work, note: (note: string) => notes.push(note) };
    await bench().machines.create({ name: "copy", from: "base" }, listening);
    assert.deepEqual(machine("copy").volumes, []);
    assert.deepEqual(notes, [`the volumes of base are not copied: ${data}`]);
    await bench().machines.remove("copy", {}, work);
    await bench().machines.remove("base", {}, work);
    await bench().volumes.remove(data);
  });

  it("takes it along when it is removed, unless it is to be kept", async () => {
    await create("kept", { rootVolume: { sizeBytes: 2 * mib } });
    const kept = machine("kept").volumes[0]?.id as string;
    const notes: string[] = [];
    await bench().machines.remove("root", {}, work);
    await bench().machines.remove(
      "kept",
      { keepVolumes: true },
      { ...work, note: (note) => notes.push(note) },
    );
    assert.deepEqual(bench().volumes.ids, [kept]);
    assert.deepEqual(notes, [`kept: ${kept}`]);
    assert.deepEqual([...bench().volumes.served], []);
    await bench().volumes.remove(kept);
  });
});

describe("new with volumes that fails", () => {
  const nothing = async () => {
    assert.deepEqual(bench().volumes.ids, []);
    assert.deepEqual(await machineDirectories(), []);
  };

  it("leaves neither volume nor machine when it is cancelled while the disk is filled", async () => {
    const abort = new AbortController();
    bench().volumes.onImport = () => {
      abort.abort();
      abort.signal.throwIfAborted();
    };
    const made = bench().machines.create(
      { name: "gone", image: "hello", rootVolume: {}, memoryMiB: 64 },
      quietWork(abort.signal),
    );
    await assert.rejects(made, { name: "AbortError" });
    bench().volumes.onImport = () => {};
    await nothing();
  });

  it("leaves neither when the machine cannot start", async () => {
    const served = bench().volumes.serve.bind(bench().volumes);
    bench().volumes.serve = async (id, request) => {
      bench().volumes.broken.add(id);
      return await served(id, request);
    };
    const made = create("gone", { rootVolume: {}, diskBytes: 2 * mib, start: true });
    await assert.rejects(made, { code: "QEMU_FAILED" });
    bench().volumes.serve = served;
    await nothing();
  });

  const refused: [string, Partial<MachineRequest>, RegExp][] = [
    ["two sizes", { rootVolume: { sizeBytes: 2 * mib }, diskBytes: 3 * mib }, /two sizes/],
    ["a size below the image's", { rootVolume: { sizeBytes: mib } }, /smaller than image hello/],
    ["an image without a disk", { image: "tiny", rootVolume: {} }, /has no disk/],
    ["variables without UEFI", { efiVolume: true }, /boot with UEFI/],
    ["a volume that is not there", { volumes: [{ volume: "none" }] }, /"none" does not exist/],
  ];
  for (const [what, request, message] of refused) {
    it(`says why: ${what}`, async () => {
      await assert.rejects(create("gone", request), { message });
      await nothing();
    });
  }

  it("says why: the same volume twice", async () => {
    const { id } = await bench().volumes.create({ sizeBytes: mib, name: "one" });
    await assert.rejects(create("gone", { volumes: [{ volume: id }, { volume: "one" }] }), {
      message: /given twice/,
    });
    await bench().volumes.remove(id);
    await nothing();
  });

  it("leaves nothing when skepd was killed in the middle of it, either", async () => {
    const { id } = await bench().volumes.create({ sizeBytes: mib, name: "half-root-12345678" });
    const directory = join(bench().skep.home, "machines", ".new-12345678");
    await mkdir(directory);
    await writeVersionedJson(join(directory, "volumes.json"), {
      version: 1,
      names: ["half-root-12345678", "half-efi-12345678"],
    });
    await bench().reopen();
    await eventually(
      async () => !bench().volumes.ids.includes(id) && (await machineDirectories()).length === 0,
      () => "the volume was never removed",
    );
  });
});

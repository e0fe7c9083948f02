import assert from "node:assert/strict";
import { link, mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, it } from "node:test";
import { quietWork, run } from "@skep/base";
import { checkDiskSize, createDisk, type DiskBase } from "./disk.ts";
import { joinLayers } from "./join-layers.ts";
import {
  baseChain,
  basesOf,
  copyOverlay,
  finishFreeze,
  linkLayer,
  newLayer,
  sweepLayers,
  unlinkLayer,
} from "./layers.ts";
import type { Machine } from "./machine.ts";

const sizeBytes = 16 * 1024 ** 2;
let home: string;
let disk: string;

const write = (path: string, pattern: number) =>
  run("qemu-io", ["-f", "qcow2", "-c", `write -P ${pattern} 0 64k`, path]);
const holds = async (path: string, pattern: number) => {
  const { stdout } = await run("qemu-io", ["-r", "-f", "qcow2", "-c", `read -P ${pattern} 0 64k`, path], {
    okStatuses: [0, 1],
  });
  return !stdout.includes("Pattern verification failed");
};

beforeEach(async () => {
  home = await mkdtemp(join(tmpdir(), "skep-disk-"));
  await mkdir(join(home, "machines/a"), { recursive: true });
  disk = join(home, "machines/a/disk.qcow2");
  await createDisk(disk, { home, sizeBytes, base: null, uid: null });
  await write(disk, 1);
});

afterEach(() => rm(home, { recursive: true, force: true }));

const record = { base: null, from: "a", createdAt: "" };

describe("sharing a disk", () => {
  it("lets two machines write without seeing one another", async () => {
    const base = await linkLayer(home, disk, record);
    await finishFreeze({ home, disk, sizeBytes, base, uid: null });
    const other = join(home, "b.qcow2");
    await createDisk(other, { home, sizeBytes, base, uid: null });
    await write(other, 2);
    await write(disk, 3);
    assert.ok(await holds(other, 2));
    assert.ok(await holds(disk, 3));
    assert.ok(await holds(join(home, base.path), 1));
  });

  it("is finished after a crash between its halves, and is not done twice", async () => {
    const base = await linkLayer(home, disk, record);
    assert.equal((await stat(disk)).ino, (await stat(join(home, base.path))).ino);
    await finishFreeze({ home, disk, sizeBytes, base, uid: null });
    await write(disk, 4);
    await finishFreeze({ home, disk, sizeBytes, base, uid: null });
    assert.ok(await holds(disk, 4));
  });

  it("keeps a layer while anything stands on it, through other layers too", async () => {
    const first = await linkLayer(home, disk, record);
    await finishFreeze({ home, disk, sizeBytes, base: first, uid: null });
    const second = await linkLayer(home, disk, { ...record, base: first });
    await finishFreeze({ home, disk, sizeBytes, base: second, uid: null });
    assert.deepEqual(await baseChain(home, second), [second, first]);
    await sweepLayers(home, [second, null]);
    assert.equal((await readdir(join(home, "layers"))).length, 4);
    await sweepLayers(home, [first]);
    assert.equal((await readdir(join(home, "layers"))).length, 2);
    await sweepLayers(home, []);
    assert.deepEqual(await readdir(join(home, "layers")), []);
  });
});

describe("a disk on many layers", () => {
  const offset = (depth: number) => depth * 65_536;
  const machine = (base: DiskBase | null, saved: object[]) =>
    ({
      name: "a",
      context: { home, log: { warn: (fields: { err: Error }) => assert.fail(fields.err) } },
      file: { uid: null, disk: { sizeBytes, base }, dataDisks: [] },
      paths: { disk },
      save: async (change: (file: object) => object) =>
        void saved.push(change({ disk: { sizeBytes, base } })),
    }) as unknown as Machine;

  it("stands on few when it is booted, and reads as it did", async () => {
    let base: DiskBase | null = null;
    for (let depth = 0; depth < 40; depth += 1) {
      base = await linkLayer(home, disk, { ...record, base });
      await finishFreeze({ home, disk, sizeBytes, base, uid: null });
      await run("qemu-io", ["-f", "qcow2", "-c", `write -P ${depth + 100} ${offset(depth)} 64k`, disk]);
    }
    const other = join(home, "b.qcow2"); // stands on the middle of it
    const middle = (await baseChain(home, base))[20] as DiskBase;
    await createDisk(other, { home, sizeBytes, base: middle, uid: null });
    const raw = async (path: string) => {
      await run("qemu-img", ["convert", "-f", "qcow2", "-O", "raw", path, `${path}.raw`]);
      return await readFile(`${path}.raw`);
    };
    const [before, otherBefore] = [await raw(disk), await raw(other)];
    const saved: object[] = [];
    await joinLayers(machine(base, saved), quietWork());
    const chain = await baseChain(home, base);
    const target = chain.at(-8) as DiskBase;
    assert.deepEqual(saved, [{ disk: { sizeBytes, base: target } }]);
    await sweepLayers(home, [target, middle]);
    assert.ok((await raw(disk)).equals(before));
    assert.ok((await raw(other)).equals(otherBefore));
    assert.equal((await readdir(join(home, "layers"))).length, 2 * (40 - 20));
    await joinLayers(machine(target, saved), quietWork());
    assert.equal(saved.length, 1);
  });
});

describe("layers", () => {
  it("have as many empty overlays as are wanted, which go with them", async () => {
    const layer = await linkLayer(home, disk, record);
    await finishFreeze({ home, disk, sizeBytes, base: layer, uid: null });
    const copies = ["b", "c", "d"].map((name) => join(home, `${name}.qcow2`));
    await Promise.all(copies.map((path) => copyOverlay(path, { home, layer, sizeBytes, uid: null })));
    for (const [index, path] of copies.entries()) {
      assert.ok(await holds(path, 1));
      await write(path, 10 + index);
    }
    for (const [index, path] of copies.entries()) assert.ok(await holds(path, 10 + index));
    assert.ok(await holds(join(home, layer.path), 1));
    await sweepLayers(home, [layer]);
    assert.equal((await readdir(join(home, "layers"))).length, 3);
    await sweepLayers(home, []);
    assert.deepEqual(await readdir(join(home, "layers")), []);
  });

  it("are kept for every disk of a machine", async () => {
    const layer = await linkLayer(home, disk, record);
    const bases = basesOf({ disk: null, dataDisks: [{}, { base: layer }] });
    assert.deepEqual(bases, [null, null, layer]);
    await sweepLayers(home, bases);
    assert.equal((await readdir(join(home, "layers"))).length, 2);
  });

  it("stay while a disk is about to become one of them, with a record or without", async () => {
    const { path } = newLayer();
    await mkdir(join(home, "layers"), { recursive: true });
    await link(disk, join(home, path));
    await sweepLayers(home, [], [{ path, format: "qcow2" }]);
    assert.equal((await readdir(join(home, "layers"))).length, 1);
    await sweepLayers(home, []);
    assert.deepEqual(await readdir(join(home, "layers")), []);
  });

  it("leave the disk as it was where their name is taken back", async () => {
    const layer = await linkLayer(home, disk, record);
    const before = await readFile(disk);
    await copyOverlay(join(home, "b.qcow2"), { home, layer, sizeBytes, uid: null });
    await unlinkLayer(home, layer);
    assert.deepEqual(await readdir(join(home, "layers")), []);
    assert.deepEqual(await readFile(disk), before);
    await rm(join(home, "layers"), { recursive: true });
    await unlinkLayer(home, layer);
  });

  it("are refused where a disk stands on more than QEMU can open", async () => {
    const chain = Array.from({ length: 128 }, (_, depth) => `layers/${depth}.qcow2`);
    await linkLayer(home, disk, record);
    for (const [depth, path] of chain.entries()) {
      const below = chain[depth + 1];
      const base = below === undefined ? null : { path: below, format: "qcow2" };
      await writeFile(join(home, path.replace("qcow2", "json")), JSON.stringify({ version: 1, base }));
    }
    const base = { path: "layers/0.qcow2", format: "qcow2" } as const;
    assert.equal((await baseChain(home, base)).length, 128);
    await assert.rejects(linkLayer(home, disk, { ...record, base }), { code: "LAYERS_DEEP" });
  });
});

describe("disk sizes", () => {
  it("refuses a disk that this host could never fill", async () => {
    await assert.rejects(checkDiskSize(home, 2 ** 52), { code: "DISK_TOO_LARGE" });
  });
});

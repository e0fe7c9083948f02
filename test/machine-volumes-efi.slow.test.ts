import assert from "node:assert/strict";
import { readdir, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { describe, it } from "node:test";
import type { MachineRequest } from "@skep/api/schemas";
import { quietWork } from "@skep/base";
import { importHello, useBench } from "./machine-volumes.ts";

const work = quietWork();

const bench = useBench(importHello);

const create = (name: string, more: Partial<MachineRequest>) =>
  bench().machines.create({ name, image: "hello", memoryMiB: 64, cpus: 1, ...more }, work);
const machine = (name: string) => bench().machines.get(name);

describe("UEFI variables on a volume", () => {
  it("are a volume of the machine's own, every write of which is durable", async () => {
    await create("efi", { image: "tiny", firmware: "uefi", efiVolume: true, memoryMiB: 192 });
    const [volume] = machine("efi").volumes;
    assert.ok(volume?.role === "efi" && volume.device === null);
    const before_ = await readFile(bench().volumes.path(volume.id));
    await bench().machines.start("efi", { wait: true }, work);
    assert.equal(bench().volumes.served.get(volume.id)?.everyWriteFua, true);
    assert.ok(!(await readdir(machine("efi").directory)).includes("efi-vars.fd"));
    const written = await readFile(bench().volumes.path(volume.id));
    assert.notDeepEqual(written, before_);
    await bench().volumes.grow(volume.id, written.length * 2);
    await bench().machines.volumeResized(volume.id, written.length * 2);
    await bench().machines.restart("efi", { wait: true }, work);
    await bench().machines.remove("efi", { force: true }, work);
    assert.deepEqual(bench().volumes.ids, []);
    await rm(join(bench().skep.home, "hello.raw"));
  });
});

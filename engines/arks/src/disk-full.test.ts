import assert from "node:assert/strict";
import { mkdtemp, readdir, rmdir } from "node:fs/promises";
import { join } from "node:path";
import { suite, type TestContext, test } from "node:test";
import { run } from "@skep/base";
import { packDevice } from "./device.ts";
import { packMemory } from "./pack.ts";
import { makeMemory, makeState, ownDirectory, seededBytes, smallMemory } from "./testing.ts";
import { unpackMemory } from "./unpack.ts";

/** A disk of its own, which is soon full. */
async function smallDisk(t: TestContext, size: string): Promise<string> {
  const directory = await mkdtemp("/tmp/skep-arks-disk-");
  await run("mount", ["-t", "tmpfs", "-o", `size=${size}`, "tmpfs", directory]);
  t.after(async () => {
    await run("umount", [directory]);
    await rmdir(directory);
  });
  return directory;
}

const isRoot = process.getuid?.() === 0 && process.platform === "linux";

suite("a full disk", { skip: isRoot ? false : "mounting a small disk needs root" }, () => {
  test("leaves nothing of a state's memory behind", async (t) => {
    const ramPath = join(await ownDirectory(t), "ram");
    await makeMemory(ramPath, smallMemory.bytes, smallMemory.contents());
    const directory = await smallDisk(t, "1m");
    await assert.rejects(packMemory({ ramPath, memoryBytes: smallMemory.bytes, directory }), {
      code: "ENOSPC",
    });
    assert.deepEqual(await readdir(directory), []);
  });

  test("leaves nothing of a state's devices behind", async (t) => {
    const directory = await smallDisk(t, "1m");
    const from = seededBytes("devices", 4_000_000);
    await assert.rejects(packDevice({ from, form: "migration", directory }), { code: "ENOSPC" });
    assert.deepEqual(await readdir(directory), []);
  });

  test("is told where memory is unpacked to it", async (t) => {
    const { directory, manifest } = await makeState(t);
    const into = join(await smallDisk(t, "1m"), "ram");
    await makeMemory(into, smallMemory.bytes, []);
    await assert.rejects(unpackMemory({ directory, manifest, into }), { code: "ENOSPC" });
  });
});

import assert from "node:assert/strict";
import { existsSync, statSync } from "node:fs";
import { readdir, readFile, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { suite, test } from "node:test";
import { decodeIndex } from "./index-codec.ts";
import { packMemory } from "./pack.ts";
import { statePaths } from "./paths.ts";
import { makeMemory, makeState, ownDirectory, seededBytes, smallMemory } from "./testing.ts";
import { chunkBytes } from "./types.ts";
import { unpackMemory } from "./unpack.ts";

suite("guest memory on disk", () => {
  for (const place of ["/dev/shm", "/tmp"]) {
    test(`comes back byte for byte, on ${place}, and its holes are holes again`, async (t) => {
      const state = await makeState(t);
      const directory = await ownDirectory(t, place);
      const into = join(directory, "ram");
      await writeFile(into, "");
      await truncate(into, smallMemory.bytes);
      await unpackMemory({ directory: state.directory, manifest: state.manifest, into });
      assert.ok((await readFile(into)).equals(await readFile(state.ramPath)));
      const written = smallMemory.contents().reduce((sum, { bytes }) => sum + bytes.length + 2 * 4096, 0);
      assert.ok(statSync(into).blocks * 512 <= written);
    });

    test(`is packed from a file on ${place} without filling its holes`, async (t) => {
      const directory = await ownDirectory(t, place);
      const ramPath = join(directory, "ram");
      await makeMemory(ramPath, smallMemory.bytes, smallMemory.contents());
      const before = statSync(ramPath).blocks;
      await packMemory({ ramPath, memoryBytes: smallMemory.bytes, directory });
      assert.equal(statSync(ramPath).blocks, before);
    });
  }

  test("is stored once for each chunk that is not zero, in order, in fewer bytes or as it is", async (t) => {
    const { directory, manifest } = await makeState(t);
    const { rows } = decodeIndex(await readFile(statePaths(directory).index));
    assert.deepEqual(
      rows.map(({ chunk }) => chunk),
      smallMemory.chunks,
    );
    assert.equal(rows.find(({ chunk }) => chunk === 9)?.length, chunkBytes); // random: stored as it is
    assert.ok((rows.find(({ chunk }) => chunk === 20)?.length ?? 0) < 200);
    assert.equal(manifest.memory.chunks, rows.length);
    assert.equal(manifest.memory.populatedBytes, 6 * chunkBytes + 512 * 1024);
    assert.equal(statSync(statePaths(directory).pack).size, manifest.memory.packBytes);
  });

  test("is stored the same each time, also where holes were filled with zeros", async (t) => {
    const directory = await ownDirectory(t);
    const [one, two] = [join(directory, "one"), join(directory, "two")];
    await makeMemory(one, smallMemory.bytes, smallMemory.contents());
    const zeros = { offset: 40 * chunkBytes, bytes: Buffer.alloc(10 * chunkBytes) };
    await makeMemory(two, smallMemory.bytes, [zeros, ...smallMemory.contents()]);
    const packed = await Promise.all(
      [one, two].map(async (ramPath) => {
        const own = await ownDirectory(t);
        const record = await packMemory({ ramPath, memoryBytes: smallMemory.bytes, directory: own });
        return { record, pack: await readFile(statePaths(own).pack) };
      }),
    );
    assert.deepEqual(packed[0]?.record, packed[1]?.record);
    assert.ok(packed[0]?.pack.equals(packed[1]?.pack as Buffer));
  });

  test("that is empty has no chunks, and full memory has all", async (t) => {
    const directory = await ownDirectory(t);
    const ramPath = join(directory, "ram");
    await makeMemory(ramPath, 8 * chunkBytes, []);
    const empty = await packMemory({ ramPath, memoryBytes: 8 * chunkBytes, directory });
    assert.deepEqual([empty.chunks, empty.packBytes, empty.populatedBytes], [0, 0, 0]);
    const own = await ownDirectory(t);
    await makeMemory(ramPath, 8 * chunkBytes, [{ offset: 0, bytes: seededBytes("all", 8 * chunkBytes) }]);
    const full = await packMemory({ ramPath, memoryBytes: 8 * chunkBytes, directory: own });
    assert.deepEqual([full.chunks, full.populatedBytes], [8, 8 * chunkBytes]);
  });

  test("tells how far it is, up to all of it", async (t) => {
    const directory = await ownDirectory(t);
    const ramPath = join(directory, "ram");
    await makeMemory(ramPath, smallMemory.bytes, smallMemory.contents());
    const seen: [number, number][] = [];
    const onProgress = (done: number, total: number) => seen.push([done, total]);
    await packMemory({ ramPath, memoryBytes: smallMemory.bytes, directory, onProgress });
    assert.ok(seen.length > 1);
    assert.ok(seen.every(([done], index) => index === 0 || done > (seen[index - 1] as [number, number])[0]));
    assert.deepEqual(seen.at(-1), [seen[0]?.[1], seen[0]?.[1]]);
  });

  test("of another size than said is refused, for packing and unpacking", async (t) => {
    const state = await makeState(t);
    const { ramPath } = state;
    await truncate(ramPath, smallMemory.bytes - 4096);
    const directory = await ownDirectory(t);
    const request = { ramPath, memoryBytes: smallMemory.bytes, directory };
    await assert.rejects(packMemory(request), { code: "STATE_MEMORY", message: /instead of/ });
    const into = { directory: state.directory, manifest: state.manifest, into: ramPath };
    await assert.rejects(unpackMemory(into), { code: "STATE_MEMORY" });
    await assert.rejects(packMemory({ ...request, memoryBytes: 12_345 }), { code: "STATE_MEMORY" });
    await assert.rejects(packMemory({ ...request, ramPath: "/dev/zero" }), { code: "STATE_MEMORY" });
    assert.deepEqual(await readdir(directory), []);
  });

  test("is never packed over what is there", async (t) => {
    const directory = await ownDirectory(t);
    const ramPath = join(directory, "ram");
    await makeMemory(ramPath, chunkBytes, []);
    await writeFile(statePaths(directory).index, "theirs");
    await assert.rejects(packMemory({ ramPath, memoryBytes: chunkBytes, directory }), { code: "EEXIST" });
    assert.equal(await readFile(statePaths(directory).index, "utf8"), "theirs");
    assert.equal(existsSync(statePaths(directory).pack), false);
  });

  test("leaves no file where packing is aborted, before or in the middle", async (t) => {
    const directory = await ownDirectory(t);
    const ramPath = join(await ownDirectory(t), "ram");
    await makeMemory(ramPath, smallMemory.bytes, smallMemory.contents());
    const stop = new AbortController();
    const request = { ramPath, memoryBytes: smallMemory.bytes, directory, signal: stop.signal };
    await assert.rejects(packMemory({ ...request, onProgress: () => stop.abort() }), { name: "AbortError" });
    assert.deepEqual(await readdir(directory), []);
    await assert.rejects(packMemory(request), { name: "AbortError" });
    assert.deepEqual(await readdir(directory), []);
  });

  test("stops being unpacked when that is aborted", async (t) => {
    const { directory, manifest, home } = await makeState(t);
    const into = join(home, "into");
    await makeMemory(into, smallMemory.bytes, []);
    const stop = new AbortController();
    const request = { directory, manifest, into, signal: stop.signal };
    await assert.rejects(unpackMemory({ ...request, onProgress: () => stop.abort() }), {
      name: "AbortError",
    });
  });
});

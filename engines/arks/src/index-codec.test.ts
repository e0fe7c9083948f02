import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { suite, test } from "node:test";
import { bytesOfChunk, decodeIndex, encodeIndex, IndexError, indexBytes } from "./index-codec.ts";
import { chunkBytes, type MemoryIndex } from "./types.ts";

/** Numbers below `below`, the same for the same seed. */
function dice(seed: string): (below: number) => number {
  let count = 0;
  return (below) => {
    count += 1;
    return createHash("sha256").update(`${seed} ${count}`).digest().readUInt32LE() % below;
  };
}

function someIndex(roll: (below: number) => number): MemoryIndex {
  const memoryBytes = (1 + roll(200)) * chunkBytes - roll(2) * 4096 * roll(256);
  const rows: MemoryIndex["rows"] = [];
  let packBytes = 0;
  for (let chunk = roll(3); chunk * chunkBytes < memoryBytes; chunk += 1 + roll(20)) {
    const length = 1 + roll(bytesOfChunk(chunk, memoryBytes));
    const sha256 = new Uint8Array(createHash("sha256").update(String(chunk)).digest());
    rows.push({ chunk, offset: packBytes, length, sha256 });
    packBytes += length;
  }
  return { memoryBytes, packBytes, rows };
}

/** What must hold of whatever the decoder lets through. */
function assertSound(index: MemoryIndex): void {
  let end = 0;
  let previous = -1;
  for (const { chunk, offset, length, sha256 } of index.rows) {
    assert.ok(chunk > previous && chunk * chunkBytes < index.memoryBytes);
    assert.ok(offset === end && length > 0 && length <= bytesOfChunk(chunk, index.memoryBytes));
    assert.equal(sha256.length, 32);
    previous = chunk;
    end += length;
  }
  assert.equal(end, index.packBytes);
}

suite("the index of a memory", () => {
  test("reads as it was written, whatever it holds", () => {
    const roll = dice("round trip");
    for (let turn = 0; turn < 100; turn += 1) {
      const index = someIndex(roll);
      const bytes = encodeIndex(index);
      assert.equal(bytes.length, indexBytes(index.rows.length));
      assert.deepEqual(decodeIndex(bytes), index);
    }
  });

  test("is the bytes that FORMAT.md shows", () => {
    const sha256 = new Uint8Array(32).fill(0xab);
    const rows = [{ chunk: 2, offset: 0, length: 51, sha256 }];
    const bytes = encodeIndex({ memoryBytes: 4 * chunkBytes, packBytes: 51, rows });
    const header = "534b45504d494458 01000000 00001000 0000400000000000 3300000000000000 01000000 00000000";
    const row = `02000000 33000000 0000000000000000 ${"ab".repeat(32)}`;
    assert.equal(bytes.toString("hex"), `${header} ${row}`.replaceAll(" ", ""));
  });

  test("with any bytes changed is refused with a reason, or still sound", () => {
    const roll = dice("mutations");
    const refused = new Set<string>();
    for (let turn = 0; turn < 5000; turn += 1) {
      const bytes = encodeIndex(someIndex(roll));
      for (let change = 0; change <= roll(3); change += 1) bytes[roll(bytes.length)] = roll(256);
      const cut = roll(4) === 0 ? bytes.subarray(0, roll(bytes.length + 1)) : bytes;
      try {
        assertSound(decodeIndex(cut));
      } catch (error) {
        assert.ok(error instanceof IndexError, String(error));
        refused.add(error.message.replace(/\d+/g, "N"));
      }
    }
    assert.ok(refused.size >= 10, [...refused].join("\n"));
  });

  test("that is only noise is refused", () => {
    const roll = dice("noise");
    for (let turn = 0; turn < 500; turn += 1) {
      const noise = Buffer.from(Array.from({ length: roll(300) }, () => roll(256)));
      if (roll(2) === 0) noise.write("SKEPMIDX");
      assert.throws(() => decodeIndex(noise), IndexError);
    }
  });

  test("with numbers beyond what JavaScript counts exactly is refused", () => {
    const index = { memoryBytes: chunkBytes, packBytes: 0, rows: [] };
    for (const at of [16, 24]) {
      const bytes = encodeIndex(index);
      bytes.writeBigUInt64LE(2n ** 64n - 1n, at);
      assert.throws(() => decodeIndex(bytes), IndexError);
    }
  });
});

import assert from "node:assert/strict";
import { createCipheriv, createDecipheriv } from "node:crypto";
import { test } from "node:test";
import { crc32, zstdCompressSync, zstdDecompressSync } from "node:zlib";
import {
  decodeMapObject,
  encodeMapObject,
  type MapCodec,
  MapDamaged,
  type MapObject,
  newMapObject,
} from "./codec.ts";
import { hole } from "./extent-map.ts";
import { sequence } from "./testing.ts";

const key = new Uint8Array(32).fill(7);
const nonce = new Uint8Array(12);
const compressed: MapCodec = {
  compress: (bytes) => zstdCompressSync(bytes),
  decompress: (bytes, maxBytes) => zstdDecompressSync(bytes, { maxOutputLength: Math.max(1, maxBytes) }),
};
const both: MapCodec = {
  ...compressed,
  seal(bytes, header) {
    const cipher = createCipheriv("aes-256-gcm", key, nonce).setAAD(header);
    return Buffer.concat([cipher.update(bytes), cipher.final(), cipher.getAuthTag()]);
  },
  open(bytes, header) {
    const cipher = createDecipheriv("aes-256-gcm", key, nonce).setAAD(header);
    cipher.setAuthTag(bytes.subarray(-16));
    return Buffer.concat([cipher.update(bytes.subarray(0, -16)), cipher.final()]);
  },
};

function example(extents = 200): MapObject {
  const sources = ["vol-00000000000000001", "vol-0000000000000000a"];
  const object = newMapObject("delta", 9, sources, { removed: 2, rows: 2, extents });
  object.removed.set([4, 8]);
  object.rows.set([1, 0, 2, 3, 8192, 4096, 1, 9, 0, 5, 1, 2, 4, 40960, 4096, 9, 3, 0]);
  for (let i = 0; i < extents; i++) object.extents.set([i * 5, 3, i % 2 === 0 ? 1 : hole, i], i * 4);
  return object;
}

const said = ({ bytes, ...rest }: MapObject) => ({
  ...rest,
  removed: [...rest.removed],
  rows: [...rest.rows],
  extents: [...rest.extents],
});

for (const [name, codec] of [
  ["plain", {}],
  ["compressed", compressed],
  ["encrypted", both],
] as [string, MapCodec][]) {
  test(`a ${name} map object is read as it was written, from anywhere in a buffer`, async () => {
    const bytes = await encodeMapObject(example(), codec);
    const shifted = Buffer.concat([Buffer.alloc(1), bytes]).subarray(1);
    assert.deepEqual(said(await decodeMapObject(shifted, codec)), said(example()));
    const empty = newMapObject("base", 1, ["vol-00000000000000001"], { removed: 0, rows: 0, extents: 0 });
    assert.deepEqual(said(await decodeMapObject(await encodeMapObject(empty, codec), codec)), said(empty));
  });

  test(`a ${name} map object that is cut off or has a flipped bit is refused`, async () => {
    const bytes = (await encodeMapObject(example(20), codec)).slice();
    for (let length = 0; length < bytes.length; length++) {
      await assert.rejects(decodeMapObject(bytes.slice(0, length), codec), MapDamaged);
    }
    for (let bit = 0; bit < bytes.length * 8; bit += 3) {
      const altered = bytes.slice();
      altered[bit >>> 3] = (altered[bit >>> 3] as number) ^ (1 << (bit & 7));
      await assert.rejects(decodeMapObject(altered, codec), MapDamaged, `bit ${bit}`);
    }
  });
}

/** With a checksum that fits, so that what lies behind it is reached. */
function resealed(bytes: Uint8Array): Uint8Array {
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  view.setUint32(28, 0, true);
  view.setUint32(28, crc32(bytes), true);
  return bytes;
}

test("whatever a map object says, it is read or refused as damaged", async () => {
  for (const codec of [{}, compressed]) {
    const good = (await encodeMapObject(example(30), codec)).slice();
    const random = sequence(5);
    for (let turn = 0; turn < 3000; turn++) {
      const bytes = good.slice(0, random(10) === 0 ? 48 + random(good.length - 48) : good.length);
      for (let i = 0; i <= random(3); i++) {
        const at = random(random(2) === 0 ? 48 : bytes.length);
        bytes[at] = random(3) === 0 ? 255 : random(256);
      }
      await decodeMapObject(resealed(bytes), codec).catch((error) =>
        assert.ok(error instanceof MapDamaged, error),
      );
    }
  }
});

test("counts beyond the object's size are refused before anything is allocated", async () => {
  for (const at of [12, 16, 20, 24, 32]) {
    const bytes = (await encodeMapObject(example())).slice();
    new DataView(bytes.buffer).setUint32(at, 0xfffffff0, true);
    await assert.rejects(decodeMapObject(resealed(bytes)), /counts do not match|too long/);
  }
});

test("a body that decompresses to more than the header says is refused", async () => {
  const bytes = await encodeMapObject(example(), compressed);
  const bomb = zstdCompressSync(new Uint8Array(2 ** 24));
  const whole = resealed(Buffer.concat([bytes.subarray(0, 48), bomb]));
  await assert.rejects(decodeMapObject(whole, compressed), /does not decompress/);
});

test("an encrypted volume takes no plain map object, and a plain one none that is encrypted", async () => {
  await assert.rejects(decodeMapObject((await encodeMapObject(example())).slice(), both), /is not encrypted/);
  await assert.rejects(decodeMapObject(await encodeMapObject(example(), both), compressed), /is encrypted/);
});

test("rows and extents that cannot be are refused", async () => {
  const wrong: ((object: MapObject) => void)[] = [
    ({ extents }) => extents.set([2], 4), // overlaps
    ({ extents }) => extents.set([0], 1), // empty
    ({ extents }) => extents.set([0xffffffff, 2], extents.length - 4), // behind 2^32
    ({ extents }) => extents.set([0xfffffffe], 2), // no such slot
    ({ removed }) => removed.set([9], 0), // out of order
    ({ rows }) => rows.set([5], 0), // the same slot twice
    ({ rows }) => rows.set([2], 1), // no such source
    ({ rows }) => rows.set([0], 6), // no blocks
    ({ rows }) => rows.set([100], 4), // smaller than its header
    ({ rows }) => rows.set([10], 7), // born after the object
    ({ rows }) => rows.set([0xffffff00], 9), // a slot that would cost gigabytes
  ];
  for (const [index, spoil] of wrong.entries()) {
    const object = example();
    spoil(object);
    const bytes = await encodeMapObject(object);
    await assert.rejects(decodeMapObject(bytes), MapDamaged, `case ${index}`);
  }
});

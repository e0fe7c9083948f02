import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { encodeLine, type JsonObject, LineDecoder, LineError } from "./codec.ts";

function decode(pieces: readonly Uint8Array[], maxLineBytes = 1000): JsonObject[] {
  const decoder = new LineDecoder({ maxLineBytes });
  const objects: JsonObject[] = [];
  for (const piece of pieces) decoder.push(piece, (object) => objects.push(object));
  return objects;
}

describe("LineDecoder", () => {
  const stream = Buffer.concat([
    encodeLine({ a: "ü€😀" }),
    Buffer.from('\r\n\n{"b": [1, 2]}\r\n'),
    encodeLine({ c: "x\ny" }),
  ]);
  const objects = [{ a: "ü€😀" }, { b: [1, 2] }, { c: "x\ny" }];

  it("reads the same objects wherever the stream is split", () => {
    assert.deepEqual(decode([stream]), objects);
    assert.deepEqual(decode([...stream].map((byte) => Buffer.from([byte]))), objects);
    for (let at = 0; at <= stream.length; at += 1) {
      assert.deepEqual(decode([stream.subarray(0, at), stream.subarray(at)]), objects);
    }
  });

  it("holds back an unfinished line", () => {
    assert.deepEqual(decode([Buffer.from('{"a": 1}\n{"b": ')]), [{ a: 1 }]);
  });

  it("refuses what is no JSON object, after handing out what came before", () => {
    for (const garbage of ["hello", "[1]", "null", "17", '{"a":', "\0\0\0", "\xff"]) {
      const seen: JsonObject[] = [];
      const decoder = new LineDecoder({ maxLineBytes: 1000 });
      assert.throws(
        () => decoder.push(Buffer.from(`{"a": 1}\n${garbage}\n`, "latin1"), (one) => seen.push(one)),
        LineError,
      );
      assert.deepEqual(seen, [{ a: 1 }]);
    }
  });

  it("refuses a line above the limit before it is complete, also in small pieces", () => {
    const decoder = new LineDecoder({ maxLineBytes: 100 });
    const piece = Buffer.alloc(30, "x");
    for (let i = 0; i < 3; i += 1) decoder.push(piece, () => assert.fail());
    assert.throws(() => decoder.push(piece, () => assert.fail()), LineError);
  });

  it("takes a line of exactly the limit", () => {
    const line = encodeLine({ a: "x".repeat(50) });
    assert.equal(decode([line], line.length - 1).length, 1);
    assert.throws(() => decode([line], line.length - 2), LineError);
  });

  it("skips garbage up to the delimiter, wherever the stream is split", () => {
    const noisy = Buffer.concat([
      Buffer.from('ate half"}\nnot json\n'),
      Buffer.from([0xff]),
      encodeLine({ return: 7 }),
    ]);
    for (let at = 0; at <= noisy.length; at += 1) {
      const decoder = new LineDecoder({ maxLineBytes: 1000 });
      decoder.push(Buffer.from('{"return": "l'), () => assert.fail());
      decoder.skipToDelimiter();
      const seen: JsonObject[] = [];
      decoder.push(noisy.subarray(0, at), (one) => seen.push(one));
      decoder.push(noisy.subarray(at), (one) => seen.push(one));
      assert.deepEqual(seen, [{ return: 7 }]);
    }
  });
});

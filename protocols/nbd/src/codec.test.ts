import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { ByteQueue } from "./bytes.ts";
import {
  chunkHeaderBytes,
  encodeBlockStatus,
  encodeError,
  putChunkHeader,
  putRequest,
  putSimpleReply,
  type Reply,
  ReplyDecoder,
  type Request,
  RequestDecoder,
  requestBytes,
  simpleReplyBytes,
} from "./codec.ts";
import {
  type ClientFlags,
  decodeInfoRequest,
  decodeMetaContextRequest,
  encodeClientFlags,
  encodeGreeting,
  encodeInfoRequest,
  encodeMetaContextRequest,
  encodeOption,
  encodeOptionReply,
  OptionDecoder,
  type OptionMessage,
  OptionReplyDecoder,
} from "./handshake-codec.ts";
import { Command, Option, OptionReply, ReplyType } from "./protocol.ts";

/** The stream whole, in single bytes, and cut at two places of every kind. */
function* splits(stream: Buffer): Generator<Buffer[]> {
  yield [stream];
  yield Array.from(stream, (_, index) => stream.subarray(index, index + 1));
  for (let first = 1; first < stream.length; first += 3) {
    for (let second = first + 1; second < stream.length; second += 17) {
      yield [stream.subarray(0, first), stream.subarray(first, second), stream.subarray(second)];
    }
  }
}

function all<T>(
  decoder: { push(bytes: Buffer): void; next(): T | undefined },
  pieces: Iterable<Buffer>,
  after: (piece: Buffer) => void = () => {},
): T[] {
  const found: T[] = [];
  for (const piece of pieces) {
    decoder.push(piece);
    for (let next = decoder.next(); next !== undefined; next = decoder.next()) found.push(next);
    after(piece);
  }
  return found;
}

function request(fields: Partial<Request>): Buffer {
  const header = Buffer.alloc(requestBytes);
  const base = { flags: 0, command: Command.read, cookieHigh: 0, cookieLow: 0, offset: 0, length: 0 };
  const length = fields.data?.length ?? fields.length ?? 0;
  putRequest(header, 0, { ...base, ...fields, length });
  return Buffer.concat([header, fields.data ?? Buffer.alloc(0)]);
}

function chunk(type: number, done: boolean, payload: Buffer, cookieLow = 7): Buffer {
  const header = Buffer.alloc(chunkHeaderBytes);
  putChunkHeader(header, 0, { type, done, length: payload.length }, { cookieHigh: 1, cookieLow });
  return Buffer.concat([header, payload]);
}

function offset(value: number, rest = Buffer.alloc(0)): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(BigInt(value));
  return Buffer.concat([bytes, rest]);
}

const newRequests = () =>
  new RequestDecoder({ maxPayloadBytes: 64, allocate: (length) => Buffer.alloc(length) });

describe("RequestDecoder", () => {
  const stream = Buffer.concat([
    request({
      command: Command.read,
      cookieHigh: 0xffffffff,
      cookieLow: 1,
      offset: 2 ** 40 + 5,
      length: 4096,
    }),
    request({ command: Command.write, flags: 1, cookieLow: 2, data: Buffer.from("some data") }),
    request({ command: Command.write, cookieLow: 3, data: Buffer.alloc(0) }),
    request({ command: Command.write, cookieLow: 4, data: Buffer.alloc(65, "too long") }),
    request({ command: Command.flush, cookieLow: 5 }),
  ]);

  it("finds the same requests however the bytes arrive, also where they are overwritten afterwards", () => {
    for (const pieces of splits(stream)) {
      const copies = pieces.map((piece) => Buffer.from(piece));
      const found = all(newRequests(), copies, (piece) => piece.fill(0xee));
      assert.deepEqual(
        found.map(({ command, cookieLow, length }) => [command, cookieLow, length]),
        [
          [Command.read, 1, 4096],
          [Command.write, 2, 9],
          [Command.write, 3, 0],
          [Command.write, 4, 65],
          [Command.flush, 5, 0],
        ],
      );
      assert.equal(found[0]?.offset, 2 ** 40 + 5);
      assert.equal(found[0]?.cookieHigh, 0xffffffff);
      assert.equal(found[1]?.data?.toString(), "some data");
      assert.equal(found[3]?.data, undefined);
    }
  });

  it("keeps what waits when it is stopped in the middle", () => {
    const decoder = newRequests();
    const bytes = Buffer.from(stream);
    decoder.push(bytes);
    assert.equal(decoder.next()?.cookieLow, 1);
    decoder.detach();
    bytes.fill(0);
    assert.equal(decoder.next()?.data?.toString(), "some data");
    decoder.push(request({ cookieLow: 6 }));
    assert.deepEqual(all(decoder, []).length + all(decoder, [Buffer.alloc(0)]).length, 4);
  });

  it("refuses what has no magic", () => {
    assert.throws(() => all(newRequests(), [Buffer.alloc(requestBytes)]), { name: "ProtocolError" });
  });
});

describe("ReplyDecoder", () => {
  it("finds the same replies however the bytes arrive", () => {
    const simple = Buffer.alloc(simpleReplyBytes);
    putSimpleReply(simple, 0, 0, { cookieHigh: 1, cookieLow: 7 });
    const failed = Buffer.alloc(simpleReplyBytes);
    putSimpleReply(failed, 0, 28, { cookieHigh: 1, cookieLow: 7 });
    const stream = Buffer.concat([
      simple,
      Buffer.from("abcd"),
      failed,
      chunk(ReplyType.offsetData, false, offset(2 ** 40, Buffer.from("xyz"))),
      chunk(ReplyType.offsetHole, true, offset(9, Buffer.from([0, 1, 0, 0]))),
      chunk(ReplyType.blockStatus, true, encodeBlockStatus(3, [4096, 3, 512, 0])),
      chunk(ReplyType.error, false, encodeError(5, "broken")),
      chunk(ReplyType.errorOffset, false, encodeError(28, "", 77)),
      chunk(0x8123, false, encodeError(1, "of the future")),
      chunk(ReplyType.none, true, Buffer.alloc(0)),
    ]);
    for (const pieces of splits(stream)) {
      const decoder = new ReplyDecoder(() => ({ dataBytes: 4, maxChunkBytes: 100 }));
      const found = all<Reply>(decoder, pieces).map(({ cookieHigh: _, cookieLow: __, ...rest }) => rest);
      assert.deepEqual(found, [
        { kind: "simple", error: 0, data: Buffer.from("abcd") },
        { kind: "simple", error: 28, data: undefined },
        { kind: "data", done: false, offset: 2 ** 40, data: Buffer.from("xyz") },
        { kind: "hole", done: true, offset: 9, length: 65536 },
        { kind: "status", done: true, contextId: 3, descriptors: [4096, 3, 512, 0] },
        { kind: "error", done: false, error: 5, message: "broken", offset: undefined },
        { kind: "error", done: false, error: 28, message: "", offset: 77 },
        { kind: "error", done: false, error: 1, message: "of the future", offset: undefined },
        { kind: "none", done: true },
      ]);
    }
  });

  it("refuses chunks that are too long, too short, or of no known kind", () => {
    const decode = (bytes: Buffer) => () =>
      all(new ReplyDecoder(() => ({ dataBytes: 4, maxChunkBytes: 100 })), [bytes]);
    for (const bytes of [
      chunk(ReplyType.offsetData, true, Buffer.alloc(101)),
      chunk(ReplyType.offsetData, true, Buffer.alloc(8)),
      chunk(ReplyType.offsetHole, true, Buffer.alloc(13)),
      chunk(ReplyType.blockStatus, true, Buffer.alloc(4)),
      chunk(ReplyType.none, false, Buffer.alloc(0)),
      chunk(ReplyType.error, true, Buffer.from([0, 0, 0, 5, 0, 9, 1])),
      chunk(77, true, Buffer.alloc(8)),
      Buffer.alloc(simpleReplyBytes),
    ]) {
      assert.throws(decode(bytes), { name: "ProtocolError" });
    }
  });
});

describe("the handshake's decoders", () => {
  it("find the same options however the bytes arrive, and drop what is too long", () => {
    const stream = Buffer.concat([
      encodeClientFlags({ fixedNewstyle: true, noZeroes: true }),
      encodeOption(Option.go, encodeInfoRequest({ name: "disk", infos: [3] })),
      encodeOption(99),
    ]);
    const long = Buffer.concat([stream, encodeOption(Option.info, Buffer.alloc(70_000)), encodeOption(2)]);
    for (const pieces of [...splits(stream), [long]]) {
      const [flags, ...options] = all<ClientFlags | OptionMessage>(new OptionDecoder(), pieces);
      assert.deepEqual(flags, { kind: "flags", fixedNewstyle: true, noZeroes: true });
      const [go, unknown, ...rest] = options as OptionMessage[];
      assert.deepEqual(decodeInfoRequest(go?.data as Buffer), { name: "disk", infos: [3] });
      assert.deepEqual(unknown, { kind: "option", option: 99, data: Buffer.alloc(0) });
      assert.equal(rest[0]?.data, undefined);
    }
    assert.equal(all(new OptionDecoder(), [long]).length, 5);
  });

  it("find the same answers however the bytes arrive", () => {
    const stream = Buffer.concat([
      encodeGreeting(),
      encodeOptionReply(Option.list, OptionReply.ack),
      encodeOptionReply(Option.go, OptionReply.errorUnknown, "no such disk"),
    ]);
    for (const pieces of splits(stream)) {
      assert.deepEqual(all<unknown>(new OptionReplyDecoder(), pieces), [
        { kind: "greeting", fixedNewstyle: true, noZeroes: true },
        { kind: "reply", option: Option.list, type: OptionReply.ack, data: Buffer.alloc(0) },
        {
          kind: "reply",
          option: Option.go,
          type: OptionReply.errorUnknown,
          data: Buffer.from("no such disk"),
        },
      ]);
    }
  });

  it("take no list for well-formed that says more or less than it holds", () => {
    const queries = encodeMetaContextRequest({ name: "disk", queries: ["base:allocation", ""] });
    assert.deepEqual(decodeMetaContextRequest(queries), { name: "disk", queries: ["base:allocation", ""] });
    const info = encodeInfoRequest({ name: "disk", infos: [0, 3] });
    for (let length = 0; length < queries.length; length += 1) {
      assert.equal(decodeMetaContextRequest(queries.subarray(0, length)), undefined);
    }
    for (let length = 0; length < info.length; length += 1) {
      assert.equal(decodeInfoRequest(info.subarray(0, length)), undefined);
    }
    assert.equal(decodeInfoRequest(Buffer.concat([info, Buffer.alloc(1)])), undefined);
    const many = encodeMetaContextRequest({ name: "", queries: Array.from({ length: 33 }, () => "x:") });
    assert.equal(decodeMetaContextRequest(many), "too big");
  });
});

describe("ByteQueue", () => {
  it("gives back what went in, whatever the pieces", () => {
    const bytes = Buffer.from(Array.from({ length: 100_000 }, (_, index) => (index * 7) % 251));
    for (const [put, take] of [
      [1, 13],
      [2047, 16],
      [2048, 5000],
      [30_000, 1],
      [700, 40_000],
    ] as const) {
      const queue = new ByteQueue();
      const out: Buffer[] = [];
      for (let at = 0; at < bytes.length; at += put) {
        queue.push(bytes.subarray(at, at + put));
        for (let piece = queue.take(take); piece !== undefined; piece = queue.take(take)) out.push(piece);
      }
      out.push(queue.take(queue.length) as Buffer);
      assert.ok(Buffer.concat(out).equals(bytes), `${put} in, ${take} out`);
      assert.equal(queue.length, 0);
    }
  });
});

/**
 * The transmission phase: bytes in, requests or replies out.
 * Source: the NBD project's doc/proto.md, "Transmission".
 */
import { ByteQueue } from "./bytes.ts";
import { ProtocolError } from "./errors.ts";
import {
  Command,
  maxStringBytes,
  ReplyFlag,
  ReplyType,
  requestMagic,
  simpleReplyMagic,
  structuredReplyMagic,
} from "./protocol.ts";

export const requestBytes = 28;
export const simpleReplyBytes = 16;
export const chunkHeaderBytes = 20;

export interface Request {
  flags: number;
  command: number;
  /** The client's 64-bit name for this request, in halves. */
  cookieHigh: number;
  cookieLow: number;
  /** Beyond 2^53 only roughly: that is past the end of anything. */
  offset: number;
  length: number;
  /** Of a write; absent where it was longer than allowed, and was dropped. */
  data: Buffer | undefined;
}

/** What a client sends in the transmission phase. */
export class RequestDecoder {
  readonly #maxPayloadBytes: number;
  readonly #allocate: (lengthBytes: number) => Buffer;
  #input: Buffer = Buffer.alloc(0);
  #at = 0;
  /** Where a header came in parts. */
  readonly #header = Buffer.allocUnsafe(requestBytes);
  #headerFilled = 0;
  /** A write whose data is not complete. */
  #request: Request | undefined;
  #filled = 0;

  constructor(options: { maxPayloadBytes: number; allocate: (lengthBytes: number) => Buffer }) {
    this.#maxPayloadBytes = options.maxPayloadBytes;
    this.#allocate = options.allocate;
  }

  /** The bytes are not used any more once `next` has given undefined, or after `detach`. */
  push(bytes: Buffer): void {
    const rest = this.#input.subarray(this.#at);
    this.#input = rest.length === 0 ? bytes : Buffer.concat([rest, bytes]);
    this.#at = 0;
  }

  /** Copies what waits, so that the bytes that were pushed may be overwritten. */
  detach(): void {
    this.#input = Buffer.from(this.#input.subarray(this.#at));
    this.#at = 0;
  }

  /** The next request, with its data. Throws ProtocolError where nothing after it can be understood. */
  next(): Request | undefined {
    const request = this.#request ?? this.#nextHeader();
    if (request === undefined || request.command !== Command.write) return request;
    const wanted = Math.min(request.length - this.#filled, this.#input.length - this.#at);
    request.data?.set(this.#input.subarray(this.#at, this.#at + wanted), this.#filled);
    this.#filled += wanted;
    this.#at += wanted;
    const complete = this.#filled === request.length;
    this.#request = complete ? undefined : request;
    return complete ? request : undefined;
  }

  #nextHeader(): Request | undefined {
    const waiting = this.#input.length - this.#at;
    if (this.#headerFilled === 0 && waiting >= requestBytes) {
      this.#at += requestBytes;
      return this.#parse(this.#input, this.#at - requestBytes);
    }
    const part = Math.min(waiting, requestBytes - this.#headerFilled);
    this.#input.copy(this.#header, this.#headerFilled, this.#at, this.#at + part);
    this.#at += part;
    this.#headerFilled += part;
    if (this.#headerFilled < requestBytes) return undefined;
    this.#headerFilled = 0;
    return this.#parse(this.#header, 0);
  }

  #parse(from: Buffer, at: number): Request {
    if (from.readUInt32BE(at) !== requestMagic) throw new ProtocolError("a request without its magic");
    const command = from.readUInt16BE(at + 6);
    const length = from.readUInt32BE(at + 24);
    this.#filled = 0;
    const holdsData = command === Command.write && length <= this.#maxPayloadBytes;
    return {
      flags: from.readUInt16BE(at + 4),
      command,
      cookieHigh: from.readUInt32BE(at + 8),
      cookieLow: from.readUInt32BE(at + 12),
      offset: from.readUInt32BE(at + 16) * 2 ** 32 + from.readUInt32BE(at + 20),
      length,
      data: holdsData ? this.#allocate(length) : undefined,
    };
  }
}

/** Writes a request's header at `at`; a write's data comes behind it. */
export function putRequest(to: Buffer, at: number, request: Omit<Request, "data">): void {
  to.writeUInt32BE(requestMagic, at);
  to.writeUInt16BE(request.flags, at + 4);
  to.writeUInt16BE(request.command, at + 6);
  to.writeUInt32BE(request.cookieHigh, at + 8);
  to.writeUInt32BE(request.cookieLow, at + 12);
  to.writeUInt32BE(Math.floor(request.offset / 2 ** 32), at + 16);
  to.writeUInt32BE(request.offset % 2 ** 32, at + 20);
  to.writeUInt32BE(request.length, at + 24);
}

type Cookie = Pick<Request, "cookieHigh" | "cookieLow">;

export function putSimpleReply(to: Buffer, at: number, error: number, cookie: Cookie): void {
  to.writeUInt32BE(simpleReplyMagic, at);
  to.writeUInt32BE(error, at + 4);
  to.writeUInt32BE(cookie.cookieHigh, at + 8);
  to.writeUInt32BE(cookie.cookieLow, at + 12);
}

/** Writes the header of a structured reply's chunk at `at`; `length` bytes come behind it. */
export function putChunkHeader(
  to: Buffer,
  at: number,
  chunk: { type: number; done: boolean; length: number },
  cookie: Cookie,
): void {
  to.writeUInt32BE(structuredReplyMagic, at);
  to.writeUInt16BE(chunk.done ? ReplyFlag.done : 0, at + 4);
  to.writeUInt16BE(chunk.type, at + 6);
  to.writeUInt32BE(cookie.cookieHigh, at + 8);
  to.writeUInt32BE(cookie.cookieLow, at + 12);
  to.writeUInt32BE(chunk.length, at + 16);
}

/** The payload of an error chunk, with the offset where one is given. */
export function encodeError(errno: number, message: string, offset?: number): Buffer {
  const text = Buffer.from(message).subarray(0, maxStringBytes);
  const bytes = Buffer.alloc(6 + text.length + (offset === undefined ? 0 : 8));
  bytes.writeUInt32BE(errno, 0);
  bytes.writeUInt16BE(text.length, 4);
  text.copy(bytes, 6);
  if (offset !== undefined) bytes.writeBigUInt64BE(BigInt(offset), 6 + text.length);
  return bytes;
}

/** The payload of a block status chunk: pairs of length and flags. */
export function encodeBlockStatus(contextId: number, descriptors: readonly number[]): Buffer {
  const bytes = Buffer.allocUnsafe(4 + 4 * descriptors.length);
  bytes.writeUInt32BE(contextId, 0);
  for (let i = 0; i < descriptors.length; i += 1) bytes.writeUInt32BE(descriptors[i] as number, 4 + 4 * i);
  return bytes;
}

interface ReplyBase {
  cookieHigh: number;
  cookieLow: number;
}

export type Reply = ReplyBase &
  (
    | { kind: "simple"; error: number; data: Buffer | undefined }
    | { kind: "none"; done: boolean }
    | { kind: "data"; done: boolean; offset: number; data: Buffer }
    | { kind: "hole"; done: boolean; offset: number; length: number }
    | { kind: "status"; done: boolean; contextId: number; descriptors: number[] }
    | { kind: "error"; done: boolean; error: number; message: string; offset: number | undefined }
  );

interface ReplyHeader extends ReplyBase {
  error: number;
  /** Of a structured reply; undefined for a simple one. */
  type: number | undefined;
  done: boolean;
  length: number;
}

/**
 * What a server sends in the transmission phase. A simple reply does not say whether data follows, so
 * `expected` is asked, also for the most that a chunk may hold; it throws for cookies that it does not know.
 */
export class ReplyDecoder {
  readonly #bytes = new ByteQueue();
  readonly #expected: (cookieHigh: number, cookieLow: number) => { dataBytes: number; maxChunkBytes: number };
  #start: Buffer | undefined;
  #header: ReplyHeader | undefined;

  constructor(
    expected: (cookieHigh: number, cookieLow: number) => { dataBytes: number; maxChunkBytes: number },
  ) {
    this.#expected = expected;
  }

  push(bytes: Buffer): void {
    this.#bytes.push(bytes);
  }

  next(): Reply | undefined {
    this.#header ??= this.#nextHeader();
    const header = this.#header;
    if (header === undefined) return undefined;
    const payload = this.#bytes.take(header.length);
    if (payload === undefined) return undefined;
    this.#header = undefined;
    const { cookieHigh, cookieLow } = header;
    if (header.type !== undefined) return decodeChunk(header, payload);
    return {
      kind: "simple",
      cookieHigh,
      cookieLow,
      error: header.error,
      data: header.length > 0 ? payload : undefined,
    };
  }

  #nextHeader(): ReplyHeader | undefined {
    // The two headers differ in length: the shorter one's bytes say which it is.
    this.#start ??= this.#bytes.take(simpleReplyBytes);
    const start = this.#start;
    if (start === undefined) return undefined;
    const magic = start.readUInt32BE(0);
    const cookieHigh = start.readUInt32BE(8);
    const cookieLow = start.readUInt32BE(12);
    if (magic === simpleReplyMagic) {
      this.#start = undefined;
      const error = start.readUInt32BE(4);
      const { dataBytes } = this.#expected(cookieHigh, cookieLow);
      return {
        cookieHigh,
        cookieLow,
        error,
        type: undefined,
        done: true,
        length: error === 0 ? dataBytes : 0,
      };
    }
    if (magic !== structuredReplyMagic) throw new ProtocolError("a reply without its magic");
    const rest = this.#bytes.take(chunkHeaderBytes - simpleReplyBytes);
    if (rest === undefined) return undefined;
    this.#start = undefined;
    const length = rest.readUInt32BE(0);
    const { maxChunkBytes } = this.#expected(cookieHigh, cookieLow);
    if (length > maxChunkBytes)
      throw new ProtocolError(`a reply of ${length} bytes where that many do not fit`);
    return {
      cookieHigh,
      cookieLow,
      error: 0,
      type: start.readUInt16BE(6),
      done: (start.readUInt16BE(4) & ReplyFlag.done) !== 0,
      length,
    };
  }
}

function decodeChunk(header: ReplyHeader, payload: Buffer): Reply {
  const { cookieHigh, cookieLow, done } = header;
  const type = header.type as number;
  const base = { cookieHigh, cookieLow, done };
  const need = (fits: boolean) => {
    if (!fits) throw new ProtocolError(`${payload.length} bytes in a chunk of type ${type}`);
  };
  if (type === ReplyType.none) {
    need(payload.length === 0 && done);
    return { ...base, kind: "none" };
  }
  if (type === ReplyType.offsetData) {
    need(payload.length >= 9);
    return { ...base, kind: "data", offset: Number(payload.readBigUInt64BE(0)), data: payload.subarray(8) };
  }
  if (type === ReplyType.offsetHole) {
    need(payload.length === 12);
    const offset = Number(payload.readBigUInt64BE(0));
    return { ...base, kind: "hole", offset, length: payload.readUInt32BE(8) };
  }
  if (type === ReplyType.blockStatus) {
    need(payload.length >= 12 && payload.length % 8 === 4);
    const descriptors = Array.from({ length: (payload.length - 4) / 4 }, (_, index) =>
      payload.readUInt32BE(4 + 4 * index),
    );
    return { ...base, kind: "status", contextId: payload.readUInt32BE(0), descriptors };
  }
  // Unknown errors have the same beginning; anything else unknown breaks the protocol.
  need((type & 0x8000) !== 0 && payload.length >= 6);
  const end = 6 + payload.readUInt16BE(4);
  need(end <= payload.length);
  const hasOffset = type === ReplyType.errorOffset && payload.length >= end + 8;
  return {
    ...base,
    kind: "error",
    error: payload.readUInt32BE(0),
    message: payload.toString("utf8", 6, Math.min(end, 6 + maxStringBytes)),
    offset: hasOffset ? Number(payload.readBigUInt64BE(end)) : undefined,
  };
}

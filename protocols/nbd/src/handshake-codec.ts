/**
 * The handshake (fixed newstyle): bytes in, messages out, for both sides.
 * Source: the NBD project's doc/proto.md, "Handshake" and "Values".
 */
import { ByteQueue } from "./bytes.ts";
import { ProtocolError } from "./errors.ts";
import {
  greetingMagic,
  HandshakeFlag,
  Info,
  maxStringBytes,
  Option,
  OptionReply,
  optionMagic,
  optionReplyMagic,
} from "./protocol.ts";

/** Options are names and short lists: nobody honest needs more. */
const maxOptionBytes = 64 * 1024;
const maxQueries = 32;
const knownClientFlags = HandshakeFlag.fixedNewstyle | HandshakeFlag.noZeroes;

export interface ClientFlags {
  kind: "flags";
  fixedNewstyle: boolean;
  noZeroes: boolean;
}

export interface OptionMessage {
  kind: "option";
  option: number;
  /** Absent where there was too much of it; it was dropped then. */
  data: Buffer | undefined;
}

/** What a client sends before the transmission phase. */
export class OptionDecoder {
  readonly #bytes = new ByteQueue();
  #hasFlags = false;
  #header: { option: number; length: number } | undefined;
  #toDrop = 0;

  push(bytes: Buffer): void {
    this.#bytes.push(bytes);
  }

  /** Throws ProtocolError where nothing after it can be understood. */
  next(): ClientFlags | OptionMessage | undefined {
    if (!this.#hasFlags) return this.#clientFlags();
    if (this.#header === undefined) {
      const header = this.#bytes.take(16);
      if (header === undefined) return undefined;
      if (header.readBigUInt64BE(0) !== optionMagic) throw new ProtocolError("an option without its magic");
      this.#header = { option: header.readUInt32BE(8), length: header.readUInt32BE(12) };
      this.#toDrop = this.#header.length > maxOptionBytes ? this.#header.length : 0;
    }
    const { option, length } = this.#header;
    let data: Buffer | undefined;
    if (length > maxOptionBytes) {
      this.#toDrop -= this.#bytes.skip(this.#toDrop);
      if (this.#toDrop > 0) return undefined;
    } else {
      data = this.#bytes.take(length);
      if (data === undefined) return undefined;
    }
    this.#header = undefined;
    return { kind: "option", option, data };
  }

  #clientFlags(): ClientFlags | undefined {
    const bytes = this.#bytes.take(4);
    if (bytes === undefined) return undefined;
    const flags = bytes.readUInt32BE(0);
    if ((flags & ~knownClientFlags) !== 0) throw new ProtocolError(`client flags 0x${flags.toString(16)}`);
    this.#hasFlags = true;
    return {
      kind: "flags",
      fixedNewstyle: (flags & HandshakeFlag.fixedNewstyle) !== 0,
      noZeroes: (flags & HandshakeFlag.noZeroes) !== 0,
    };
  }

  /** What came behind the last message: the next phase's. */
  rest(): Buffer {
    return this.#bytes.take(this.#bytes.length) as Buffer;
  }
}

export interface Greeting {
  kind: "greeting";
  fixedNewstyle: boolean;
  noZeroes: boolean;
}

export interface OptionReplyMessage {
  kind: "reply";
  option: number;
  type: number;
  data: Buffer;
}

/** What a server sends before the transmission phase. */
export class OptionReplyDecoder {
  readonly #bytes = new ByteQueue();
  #greeted = false;
  #header: { option: number; type: number; length: number } | undefined;

  push(bytes: Buffer): void {
    this.#bytes.push(bytes);
  }

  next(): Greeting | OptionReplyMessage | undefined {
    if (!this.#greeted) return this.#greeting();
    if (this.#header === undefined) {
      const header = this.#bytes.take(20);
      if (header === undefined) return undefined;
      if (header.readBigUInt64BE(0) !== optionReplyMagic) {
        throw new ProtocolError("an answer to an option without its magic");
      }
      const length = header.readUInt32BE(16);
      if (length > maxOptionBytes) throw new ProtocolError(`an answer of ${length} bytes to an option`);
      this.#header = { option: header.readUInt32BE(8), type: header.readUInt32BE(12), length };
    }
    const { option, type, length } = this.#header;
    const data = this.#bytes.take(length);
    if (data === undefined) return undefined;
    this.#header = undefined;
    return { kind: "reply", option, type, data };
  }

  #greeting(): Greeting | undefined {
    const bytes = this.#bytes.take(18);
    if (bytes === undefined) return undefined;
    if (bytes.readBigUInt64BE(0) !== greetingMagic) throw new ProtocolError("no NBD greeting");
    if (bytes.readBigUInt64BE(8) !== optionMagic) throw new ProtocolError("an old-style greeting");
    const flags = bytes.readUInt16BE(16);
    this.#greeted = true;
    return {
      kind: "greeting",
      fixedNewstyle: (flags & HandshakeFlag.fixedNewstyle) !== 0,
      noZeroes: (flags & HandshakeFlag.noZeroes) !== 0,
    };
  }

  /** Bytes without a header of their own: the answer to EXPORT_NAME. */
  raw(count: number): Buffer | undefined {
    return this.#bytes.take(count);
  }

  rest(): Buffer {
    return this.#bytes.take(this.#bytes.length) as Buffer;
  }
}

export function encodeGreeting(): Buffer {
  const bytes = Buffer.alloc(18);
  bytes.writeBigUInt64BE(greetingMagic, 0);
  bytes.writeBigUInt64BE(optionMagic, 8);
  bytes.writeUInt16BE(HandshakeFlag.fixedNewstyle | HandshakeFlag.noZeroes, 16);
  return bytes;
}

export function encodeClientFlags(flags: { fixedNewstyle: boolean; noZeroes: boolean }): Buffer {
  return uint32(
    (flags.fixedNewstyle ? HandshakeFlag.fixedNewstyle : 0) | (flags.noZeroes ? HandshakeFlag.noZeroes : 0),
  );
}

export function encodeOption(option: number, data: Uint8Array = Buffer.alloc(0)): Buffer {
  const header = Buffer.alloc(16);
  header.writeBigUInt64BE(optionMagic, 0);
  header.writeUInt32BE(option, 8);
  header.writeUInt32BE(data.length, 12);
  return Buffer.concat([header, data]);
}

export function encodeOptionReply(option: number, type: number, data: Uint8Array | string = ""): Buffer {
  const bytes = typeof data === "string" ? Buffer.from(data) : data;
  const header = Buffer.alloc(20);
  header.writeBigUInt64BE(optionReplyMagic, 0);
  header.writeUInt32BE(option, 8);
  header.writeUInt32BE(type, 12);
  header.writeUInt32BE(bytes.length, 16);
  return Buffer.concat([header, bytes]);
}

/** The data of INFO and GO. */
export interface InfoRequest {
  name: string;
  infos: number[];
}

export function encodeInfoRequest({ name, infos }: InfoRequest): Buffer {
  const list = Buffer.alloc(2 + 2 * infos.length);
  list.writeUInt16BE(infos.length, 0);
  for (const [index, info] of infos.entries()) list.writeUInt16BE(info, 2 + 2 * index);
  return Buffer.concat([encodeString(name), list]);
}

/** Undefined where it is malformed. */
export function decodeInfoRequest(data: Buffer): InfoRequest | undefined {
  const name = decodeString(data, 0);
  if (name === undefined || data.length < name.end + 2) return undefined;
  const count = data.readUInt16BE(name.end);
  if (data.length !== name.end + 2 + 2 * count) return undefined;
  const infos = Array.from({ length: count }, (_, index) => data.readUInt16BE(name.end + 2 + 2 * index));
  return { name: name.text, infos };
}

/** The data of LIST_META_CONTEXT and SET_META_CONTEXT. */
export interface MetaContextRequest {
  name: string;
  queries: string[];
}

export function encodeMetaContextRequest({ name, queries }: MetaContextRequest): Buffer {
  return Buffer.concat([encodeString(name), uint32(queries.length), ...queries.map(encodeString)]);
}

/** Undefined where it is malformed, "too big" where there are more queries than anyone needs. */
export function decodeMetaContextRequest(data: Buffer): MetaContextRequest | "too big" | undefined {
  const name = decodeString(data, 0);
  if (name === undefined || data.length < name.end + 4) return undefined;
  const count = data.readUInt32BE(name.end);
  if (count > maxQueries) return "too big";
  const queries: string[] = [];
  let at = name.end + 4;
  for (let i = 0; i < count; i += 1) {
    const query = decodeString(data, at);
    if (query === undefined) return undefined;
    queries.push(query.text);
    at = query.end;
  }
  return at === data.length ? { name: name.text, queries } : undefined;
}

/** An export as LIST shows it. */
export function encodeServer(name: string, description: string): Buffer {
  return Buffer.concat([encodeString(name), Buffer.from(description)]);
}

export function decodeServer(data: Buffer): { name: string; description: string } {
  const name = decodeString(data, 0);
  if (name === undefined) throw new ProtocolError("an export without a name");
  return { name: name.text, description: data.toString("utf8", name.end) };
}

export function encodeMetaContext(id: number, name: string): Buffer {
  return Buffer.concat([uint32(id), Buffer.from(name)]);
}

export function decodeMetaContext(data: Buffer): { id: number; name: string } {
  if (data.length < 5) throw new ProtocolError("a metadata context without a name");
  return { id: data.readUInt32BE(0), name: data.toString("utf8", 4) };
}

/** Size and transmission flags: the answer to EXPORT_NAME, and the heart of INFO. */
export function encodeExport(sizeBytes: number, flags: number): Buffer {
  const bytes = Buffer.alloc(10);
  bytes.writeBigUInt64BE(BigInt(sizeBytes), 0);
  bytes.writeUInt16BE(flags, 8);
  return bytes;
}

export function decodeExport(bytes: Buffer): { sizeBytes: number; flags: number } {
  const sizeBytes = Number(bytes.readBigUInt64BE(0));
  if (!Number.isSafeInteger(sizeBytes)) throw new ProtocolError(`an export of ${sizeBytes} bytes`);
  return { sizeBytes, flags: bytes.readUInt16BE(8) };
}

export interface BlockSizes {
  /** Smallest unit of offsets and lengths: a power of 2, at most 65,536. */
  minimum: number;
  /** What is quick: a power of 2, at least 512. */
  preferred: number;
  /** Longest read or write. */
  maximum: number;
}

export type InfoItem =
  | { type: "export"; sizeBytes: number; flags: number }
  | { type: "name"; text: string }
  | { type: "description"; text: string }
  | ({ type: "blockSize" } & BlockSizes);

export function encodeInfo(item: InfoItem): Buffer {
  switch (item.type) {
    case "export":
      return Buffer.concat([uint16(Info.export), encodeExport(item.sizeBytes, item.flags)]);
    case "name":
      return Buffer.concat([uint16(Info.name), Buffer.from(item.text)]);
    case "description":
      return Buffer.concat([uint16(Info.description), Buffer.from(item.text)]);
    case "blockSize":
      return Buffer.concat([
        uint16(Info.blockSize),
        uint32(item.minimum),
        uint32(item.preferred),
        uint32(item.maximum),
      ]);
  }
}

/** Undefined where this is information of a kind that we do not know. */
export function decodeInfo(data: Buffer): InfoItem | undefined {
  if (data.length < 2) throw new ProtocolError("information without a type");
  const type = data.readUInt16BE(0);
  if (type === Info.export) {
    if (data.length !== 12) throw new ProtocolError(`export information of ${data.length} bytes`);
    return { type: "export", ...decodeExport(data.subarray(2)) };
  }
  if (type === Info.name) return { type: "name", text: data.toString("utf8", 2) };
  if (type === Info.description) return { type: "description", text: data.toString("utf8", 2) };
  if (type !== Info.blockSize) return undefined;
  if (data.length !== 14) throw new ProtocolError(`block size information of ${data.length} bytes`);
  const [minimum, preferred, maximum] = [data.readUInt32BE(2), data.readUInt32BE(6), data.readUInt32BE(10)];
  const sane = isPowerOfTwo(minimum) && minimum <= 65536 && isPowerOfTwo(preferred) && maximum >= minimum;
  if (!sane) throw new ProtocolError(`block sizes ${minimum}, ${preferred}, ${maximum}`);
  return { type: "blockSize", minimum, preferred, maximum };
}

export function isErrorReply(type: number): boolean {
  return type >= 0x80000000;
}

/** A server's word for why it refused, where it gave none itself. */
export function refusalOf(reply: OptionReplyMessage): string {
  if (reply.data.length > 0) return reply.data.toString("utf8", 0, maxStringBytes);
  const name = Object.entries(OptionReply).find(([, type]) => type === reply.type)?.[0];
  return name ?? `error 0x${reply.type.toString(16)}`;
}

export function optionName(option: number): string {
  return Object.entries(Option).find(([, number]) => number === option)?.[0] ?? `option ${option}`;
}

export function isPowerOfTwo(value: number): boolean {
  return value > 0 && Number.isInteger(Math.log2(value));
}

function encodeString(text: string): Buffer {
  const bytes = Buffer.from(text);
  return Buffer.concat([uint32(bytes.length), bytes]);
}

function decodeString(data: Buffer, at: number): { text: string; end: number } | undefined {
  if (data.length < at + 4) return undefined;
  const end = at + 4 + data.readUInt32BE(at);
  if (end > data.length || end - at - 4 > maxStringBytes) return undefined;
  return { text: data.toString("utf8", at + 4, end), end };
}

function uint16(value: number): Buffer {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16BE(value);
  return bytes;
}

function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

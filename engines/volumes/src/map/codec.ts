import { crc32 } from "node:zlib";
import { maxSlots } from "./chunk-table.ts";
import { hole } from "./extent-map.ts";

/** Map objects as FORMAT.md has them. Words are little-endian, as is every machine that skep runs on. */

export type MapKind = "base" | "delta";

export const rowWords = 9;
export const extentWords = 4;

/** A map object in memory; the arrays are views of `bytes`, in the order of the format. */
export interface MapObject {
  kind: MapKind;
  version: number;
  /** Volumes' ids; 0 is the one that wrote the object. */
  sources: string[];
  /** Slots, ascending. */
  removed: Uint32Array;
  /** slot, source, epoch, number, bytes, header bytes, blocks, birth, death; ascending by slot. */
  rows: Uint32Array;
  /** block, blocks, slot or `hole`, ordinal; ascending and apart. */
  extents: Uint32Array;
  /** The whole object, header (not filled in yet) included. */
  bytes: Uint8Array;
}

/** How bodies are compressed and encrypted; what is not given is not done, and not understood either. */
export interface MapCodec {
  compress?(bytes: Uint8Array): Uint8Array | Promise<Uint8Array>;
  /** Throws where more than `maxBytes` come out. */
  decompress?(bytes: Uint8Array, maxBytes: number): Uint8Array | Promise<Uint8Array>;
  /** The header, its checksum 0, is authenticated with the body. */
  seal?(bytes: Uint8Array, header: Uint8Array): Uint8Array | Promise<Uint8Array>;
  open?(bytes: Uint8Array, header: Uint8Array): Uint8Array | Promise<Uint8Array>;
  /** Lets other work of the event loop run; called every few milliseconds of ours. */
  pause?(): Promise<void>;
}

/** A map object that cannot be true. `why` completes "volume … is damaged: <object>: ". */
export class MapDamaged extends Error {
  override name = "MapDamaged";
  readonly why: string;

  constructor(why: string, options?: ErrorOptions) {
    super(why, options);
    this.why = why;
  }
}

const magic = 0x4d564b53; // "SKVM"
const headerBytes = 48;
const maxSources = 1024;
/** 33 million extents. */
export const maxBodyBytes = 512 * 2 ** 20;
/** What is checked or copied between two pauses: well below 20 ms. */
const sliceBytes = 4 * 2 ** 20;
const sliceExtents = 2 ** 18;
const volumeId = /^vol-[0-9a-f]{17}$/;

/** An object of that many removed slots, rows and extents, all 0. */
export function newMapObject(
  kind: MapKind,
  version: number,
  sources: string[],
  counts: { removed: number; rows: number; extents: number },
): MapObject {
  const json = new TextEncoder().encode(JSON.stringify(sources));
  const jsonBytes = Math.ceil(json.length / 4) * 4;
  const bodyBytes = sizeOf(jsonBytes, counts.removed, counts.rows, counts.extents);
  const bytes = new Uint8Array(headerBytes + bodyBytes);
  bytes.set(json, headerBytes);
  bytes.fill(0x20, headerBytes + json.length, headerBytes + jsonBytes);
  return { kind, version, sources, bytes, ...views(bytes, headerBytes + jsonBytes, counts) };
}

/** The bytes of the object for the store. RangeError where it is larger than a reader takes. */
export async function encodeMapObject(object: MapObject, codec: MapCodec = {}): Promise<Uint8Array> {
  const bodyBytes = object.bytes.length - headerBytes;
  if (bodyBytes > maxBodyBytes) throw new RangeError(`a map object of ${bodyBytes} bytes is too large`);
  let body: Uint8Array = object.bytes.subarray(headerBytes);
  let flags = 0;
  if (codec.compress !== undefined) {
    const compressed = await codec.compress(body);
    if (compressed.length <= body.length - body.length / 8) {
      body = compressed;
      flags |= 1;
    }
  }
  const header = new Uint8Array(headerBytes);
  const view = new DataView(header.buffer);
  const jsonBytes =
    bodyBytes -
    sizeOf(0, object.removed.length, object.rows.length / rowWords, object.extents.length / extentWords);
  view.setUint32(0, magic, true);
  view.setUint16(4, 1, true);
  view.setUint8(6, object.kind === "base" ? 1 : 2);
  view.setUint8(7, flags | (codec.seal === undefined ? 0 : 2));
  view.setUint32(8, object.version, true);
  view.setUint32(12, jsonBytes, true);
  view.setUint32(16, object.rows.length / rowWords, true);
  view.setUint32(20, object.removed.length, true);
  view.setUint32(24, object.extents.length / extentWords, true);
  view.setUint32(32, bodyBytes, true);
  if (codec.seal !== undefined) body = await codec.seal(body, header.slice());
  const checksum = await checksumOf(header, body, codec);
  view.setUint32(28, checksum, true);
  // a plain body already lies behind room for its header: a base of many megabytes is not copied for it
  const plain = (flags & 1) === 0 && codec.seal === undefined;
  const whole = plain ? object.bytes : new Uint8Array(headerBytes + body.length);
  if (!plain) whole.set(body, headerBytes);
  whole.set(header, 0);
  return whole;
}

/** Checks everything that can be checked without the rest of the map. MapDamaged. */
export async function decodeMapObject(bytes: Uint8Array, codec: MapCodec = {}): Promise<MapObject> {
  if (bytes.length < headerBytes) throw new MapDamaged(`it has ${bytes.length} bytes and is cut off`);
  const header = new Uint8Array(bytes.subarray(0, headerBytes)); // a copy, which a Buffer's slice is not
  const view = new DataView(header.buffer);
  if (view.getUint32(0, true) !== magic) throw new MapDamaged("it is no map object");
  const format = view.getUint16(4, true);
  if (format !== 1) throw new MapDamaged(`it has format ${format}; this skep knows 1`);
  const checksum = view.getUint32(28, true);
  view.setUint32(28, 0, true);
  let body = bytes.subarray(headerBytes);
  if ((await checksumOf(header, body, codec)) !== checksum) throw new MapDamaged("its checksum is wrong");

  const kind = view.getUint8(6);
  const flags = view.getUint8(7);
  if (kind !== 1 && kind !== 2) throw new MapDamaged(`it is of kind ${kind}`);
  if (flags > 3 || header.subarray(36).some((byte) => byte !== 0))
    throw new MapDamaged("it has unknown flags");
  const version = view.getUint32(8, true);
  const jsonBytes = view.getUint32(12, true);
  const counts = {
    rows: view.getUint32(16, true),
    removed: view.getUint32(20, true),
    extents: view.getUint32(24, true),
  };
  const bodyBytes = view.getUint32(32, true);
  if (version === 0) throw new MapDamaged("it has version 0");
  if (jsonBytes % 4 !== 0 || jsonBytes > maxSources * 32)
    throw new MapDamaged("its list of volumes is too long");
  if (
    sizeOf(jsonBytes, counts.removed, counts.rows, counts.extents) !== bodyBytes ||
    bodyBytes > maxBodyBytes
  ) {
    throw new MapDamaged("its counts do not match its size");
  }
  if (kind === 1 && counts.removed > 0) throw new MapDamaged("a base removes chunks");

  if ((flags & 2) !== 0) {
    if (codec.open === undefined) throw new MapDamaged("it is encrypted, and the volume is not");
    body = await attempt(() => codec.open?.(body, header), "it does not decrypt");
  } else if (codec.open !== undefined) {
    throw new MapDamaged("it is not encrypted, and the volume is");
  }
  if ((flags & 1) !== 0) {
    if (codec.decompress === undefined) throw new MapDamaged("it is compressed, which was not expected");
    body = await attempt(() => codec.decompress?.(body, bodyBytes), "it does not decompress");
  }
  if (body.length !== bodyBytes)
    throw new MapDamaged(`its body has ${body.length} bytes instead of ${bodyBytes}`);
  if (body.byteOffset % 4 !== 0) body = new Uint8Array(body);

  const sources = sourcesOf(body.subarray(0, jsonBytes));
  const object: MapObject = {
    kind: kind === 1 ? "base" : "delta",
    version,
    sources,
    bytes,
    ...views(body, jsonBytes, counts),
  };
  checkRows(object);
  await checkExtents(object.extents, codec);
  return object;
}

function sizeOf(jsonBytes: number, removed: number, rows: number, extents: number): number {
  return jsonBytes + removed * 4 + rows * rowWords * 4 + extents * extentWords * 4;
}

function views(
  bytes: Uint8Array,
  from: number,
  counts: { removed: number; rows: number; extents: number },
): { removed: Uint32Array; rows: Uint32Array; extents: Uint32Array } {
  const start = bytes.byteOffset + from;
  const rowsAt = start + counts.removed * 4;
  const extentsAt = rowsAt + counts.rows * rowWords * 4;
  return {
    removed: new Uint32Array(bytes.buffer, start, counts.removed),
    rows: new Uint32Array(bytes.buffer, rowsAt, counts.rows * rowWords),
    extents: new Uint32Array(bytes.buffer, extentsAt, counts.extents * extentWords),
  };
}

async function checksumOf(header: Uint8Array, body: Uint8Array, codec: MapCodec): Promise<number> {
  let checksum = crc32(header);
  for (let at = 0; at < body.length; at += sliceBytes) {
    if (at > 0) await codec.pause?.();
    checksum = crc32(body.subarray(at, at + sliceBytes), checksum);
  }
  return checksum;
}

async function attempt(
  work: () => Uint8Array | Promise<Uint8Array> | undefined,
  why: string,
): Promise<Uint8Array> {
  try {
    return (await work()) as Uint8Array;
  } catch (cause) {
    throw new MapDamaged(why, { cause });
  }
}

function sourcesOf(json: Uint8Array): string[] {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(json));
  } catch (cause) {
    throw new MapDamaged("its list of volumes is not JSON", { cause });
  }
  const ids = Array.isArray(value) ? (value as unknown[]) : [];
  const right = ids.every((id) => typeof id === "string" && volumeId.test(id));
  if (ids.length === 0 || ids.length > maxSources || !right || new Set(ids).size !== ids.length) {
    throw new MapDamaged("its list of volumes is wrong");
  }
  return ids as string[];
}

function checkRows({ removed, rows, sources, version }: MapObject): void {
  for (let i = 0; i < removed.length; i++) {
    const slot = removed[i] as number;
    if (slot >= maxSlots || (i > 0 && slot <= (removed[i - 1] as number))) {
      throw new MapDamaged(`it removes chunk slot ${slot} out of order`);
    }
  }
  let previous = -1;
  for (let i = 0; i < rows.length; i += rowWords) {
    const [slot, source, , , bytes, header, blocks, birth, death] = rows.subarray(
      i,
      i + rowWords,
    ) as unknown as [number, number, number, number, number, number, number, number, number];
    if (slot >= maxSlots || slot <= previous) throw new MapDamaged(`its chunk slot ${slot} is out of order`);
    previous = slot;
    if (source >= sources.length) throw new MapDamaged(`chunk slot ${slot} is of a volume it does not name`);
    if (blocks === 0 || header === 0 || header % 4096 !== 0 || bytes < header) {
      throw new MapDamaged(`chunk slot ${slot} has impossible sizes`);
    }
    const own = source === 0;
    if (own && (birth > version || death > version || (death !== 0 && death < birth))) {
      throw new MapDamaged(`chunk slot ${slot} lived from ${birth} to ${death}, in version ${version}`);
    }
  }
}

async function checkExtents(extents: Uint32Array, codec: MapCodec): Promise<void> {
  let free = 0; // no extent reaches here yet
  for (let i = 0; i < extents.length; i += extentWords) {
    if (i > 0 && i % (sliceExtents * extentWords) === 0) await codec.pause?.();
    const block = extents[i] as number;
    const blocks = extents[i + 1] as number;
    if (block < free || blocks === 0 || block + blocks > 2 ** 32) {
      throw new MapDamaged(`its extent of block ${block} overlaps, is empty or too long`);
    }
    free = block + blocks;
    const slot = extents[i + 2] as number;
    if (slot >= maxSlots && slot !== hole) throw new MapDamaged(`block ${block} lies in chunk slot ${slot}`);
  }
}

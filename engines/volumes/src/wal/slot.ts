import { createCipheriv, createDecipheriv, type KeyObject } from "node:crypto";
import { crc32 } from "node:zlib";
import { blockBytes } from "../types.ts";
import type { SegmentKeys } from "./options.ts";

/** Slots of segments, as FORMAT.md has them: bytes in, entries out, and nothing of files. */

const plainSlotBytes = 32;
const encryptedSlotBytes = 48;
/** Slots begin at multiples of it. */
export const slotAlignment = 16;
/** Where in a slot the segment's salt is. */
export const saltAt = 24;
const tagAt = 32;
const tagBytes = 16;
const dataType = 1;
const zeroesType = 2;
const maxBlocks = 2 ** 32;
/** As many unsynced slots before one, or more: it proves nothing of those before it. */
const maxUnsynced = 2 ** 24 - 1;
/** One record of the largest run of zeroes that its field can say. */
export const maxZeroes = 2 ** 32 - 1;

/** What the slots of one segment have in common. */
export interface SlotContext {
  salt: bigint;
  /** Null where the volume is plain. */
  key: KeyObject | null;
  encrypted: boolean;
}

export function slotContext(salt: bigint, number: number, keys: SegmentKeys | null): SlotContext {
  return { salt, encrypted: keys !== null, key: keys?.segmentKey(salt, number) ?? null };
}

/** Bytes of a slot itself. */
export function slotBytes(encrypted: boolean): number {
  return encrypted ? encryptedSlotBytes : plainSlotBytes;
}

/** Bytes of a slot with its block. */
export function dataSlotBytes(encrypted: boolean): number {
  return slotBytes(encrypted) + blockBytes;
}

export interface SlotHead {
  zeroes: boolean;
  sequence: bigint;
  block: number;
  count: number;
  /** With the block behind it. */
  bytes: number;
  /** When it was written, the slots up to this number were on stable storage; 0: it does not say. */
  synced: bigint;
}

/**
 * Writes a slot at `at`; `data` is the block, or null for `count` blocks of zeroes. `position` is the slot's
 * place in the segment, `synced` the number up to which slots are on stable storage. Returns the slot's bytes.
 */
export function writeSlot(
  context: SlotContext,
  target: Buffer,
  at: number,
  position: number,
  slot: { sequence: bigint; synced: bigint; block: number; count: number; data: Uint8Array | null },
): number {
  const { data } = slot;
  const head = slotBytes(context.encrypted);
  const unsynced = Math.min(maxUnsynced, Number(slot.sequence - slot.synced) - 1);
  target[at + 4] = data === null ? zeroesType : dataType;
  target.writeUIntLE(unsynced, at + 5, 3);
  target.writeBigUInt64LE(slot.sequence, at + 8);
  target.writeUInt32LE(slot.block, at + 16);
  target.writeUInt32LE(slot.count, at + 20);
  target.writeBigUInt64LE(context.salt, at + saltAt);
  if (context.key !== null) {
    const cipher = createCipheriv("aes-256-gcm", context.key, nonceOf(position));
    cipher.setAAD(target.subarray(at + 4, at + plainSlotBytes));
    if (data !== null) target.set(cipher.update(data), at + head);
    cipher.final();
    target.set(cipher.getAuthTag(), at + tagAt);
  } else if (data !== null) {
    target.set(data, at + head);
  }
  const bytes = data === null ? head : head + blockBytes;
  target.writeUInt32LE(crc32(target.subarray(at + 4, at + bytes)), at);
  return bytes;
}

/** The whole slot at `at`; undefined where there is none: cut off, torn, or of another life of the file. */
export function parseSlot(context: SlotContext, bytes: Buffer, at: number): SlotHead | undefined {
  const head = parseHead(context, bytes, at);
  if (head === undefined || at + head.bytes > bytes.length) return undefined;
  return crc32(bytes.subarray(at + 4, at + head.bytes)) === bytes.readUInt32LE(at) ? head : undefined;
}

/** What a slot says of itself, its check left out: of a damaged one, most likely what it held. */
export function parseHead(context: SlotContext, bytes: Buffer, at: number): SlotHead | undefined {
  const head = slotBytes(context.encrypted);
  if (at + head > bytes.length) return undefined;
  if (bytes.readBigUInt64LE(at + saltAt) !== context.salt) return undefined;
  const type = bytes[at + 4];
  if (type !== dataType && type !== zeroesType) return undefined;
  const block = bytes.readUInt32LE(at + 16);
  const count = bytes.readUInt32LE(at + 20);
  if (count === 0 || block + count > maxBlocks || (type === dataType && count !== 1)) return undefined;
  const sequence = bytes.readBigUInt64LE(at + 8);
  const unsynced = bytes.readUIntLE(at + 5, 3);
  const synced = unsynced === maxUnsynced ? 0n : sequence - 1n - BigInt(unsynced);
  const isZeroes = type === zeroesType;
  return { zeroes: isZeroes, sequence, block, count, bytes: isZeroes ? head : head + blockBytes, synced };
}

/** What a slot that `parseSlot` knows holds, decrypted; undefined where its tag is not the key's. */
export function slotData(
  context: SlotContext,
  bytes: Buffer,
  at: number,
  position: number,
  length: number,
): Buffer | undefined {
  const stored = bytes.subarray(at + slotBytes(context.encrypted), at + length);
  if (context.key === null) return stored;
  const decipher = createDecipheriv("aes-256-gcm", context.key, nonceOf(position), {
    authTagLength: tagBytes,
  });
  decipher.setAAD(bytes.subarray(at + 4, at + plainSlotBytes));
  decipher.setAuthTag(bytes.subarray(at + tagAt, at + tagAt + tagBytes));
  const data = decipher.update(stored);
  try {
    decipher.final();
  } catch {
    return undefined;
  }
  return data;
}

/** A place of a segment is written once, so with a key a segment no nonce comes twice. */
function nonceOf(position: number): Buffer {
  const nonce = Buffer.alloc(12);
  nonce.writeBigUInt64LE(BigInt(position));
  return nonce;
}

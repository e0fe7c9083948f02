import type { AsyncFile } from "@skep/objects/files";
import { headerBytes } from "./segment.ts";
import {
  dataSlotBytes,
  parseHead,
  parseSlot,
  type SlotContext,
  type SlotHead,
  saltAt,
  slotAlignment,
  slotData,
} from "./slot.ts";

/** Reading a segment: all its whole slots, also those behind one that is not whole. */

const pieceBytes = 1024 * 1024;
/** So many blocks are named of those whose slots are damaged. */
const maxHints = 1024;

/** A run of consecutive blocks whose slots follow one another. */
export interface ReplayEntry {
  block: number;
  count: number;
  segment: number;
  position: number;
  zeroes: boolean;
}

/** Slots without a gap between them. */
export interface SlotRun {
  position: number;
  end: number;
  first: bigint;
  last: bigint;
}

export interface Scanned {
  /** Where the last whole slot ends. */
  wholeBytes: number;
  slots: number;
  /** Of the last slot; 0: there is none. */
  sequence: bigint;
  /** One, unless there are slots that are not whole before others that are. */
  runs: SlotRun[];
  /** Up to this number slots were on stable storage once: what its slots say. */
  synced: bigint;
  /** What damaged slots say that they held. */
  hints: { sequence: bigint; block: number; count: number }[];
}

export const nothingScanned: Scanned = {
  wholeBytes: 0,
  slots: 0,
  sequence: 0n,
  runs: [],
  synced: 0n,
  hints: [],
};

/**
 * Reads a segment in pieces of bounded size. `each` gets what its whole slots with numbers above `held` hold,
 * in their order, and `whole` the bytes of all whole ones, which are its own only until it has answered.
 */
export async function scanSegment(
  file: AsyncFile,
  number: number,
  context: SlotContext,
  held = 0n,
  each?: (entry: ReplayEntry) => void,
  whole?: (bytes: Buffer, position: number) => Promise<void>,
): Promise<Scanned> {
  const buffer = Buffer.allocUnsafeSlow(pieceBytes);
  const scanned: Scanned = { ...nothingScanned, wholeBytes: headerBytes, runs: [], hints: [] };
  const merged = mergeEntries(number, each);
  let position = headerBytes;
  for (;;) {
    const piece = buffer.subarray(0, await file.read(buffer, position));
    let at = 0;
    for (;;) {
      const slot = wholeSlot(context, piece, at, position, scanned.sequence);
      if (slot === undefined) break;
      if (slot.sequence > held) merged.add(slot, position + at);
      note(scanned, slot, position + at);
      at += slot.bytes;
    }
    if (at > 0) {
      await whole?.(piece.subarray(0, at), position);
    } else {
      const next = nextSlot(context, piece, position, scanned);
      if (next === undefined && piece.length < buffer.length) break;
      // A slot may begin in this piece and end in the next one.
      at = next ?? piece.length - dataSlotBytes(context.encrypted);
    }
    position += at;
  }
  merged.end();
  return scanned;
}

function wholeSlot(
  context: SlotContext,
  piece: Buffer,
  at: number,
  start: number,
  after: bigint,
): SlotHead | undefined {
  const slot = parseSlot(context, piece, at);
  if (slot === undefined || slot.sequence <= after) return undefined;
  // A block is checked with the key when it is read; zeroes never are, so they are now.
  if (slot.zeroes && slotData(context, piece, at, start + at, slot.bytes) === undefined) return undefined;
  return slot;
}

/** Where a later whole slot begins; takes note of what those that are not whole say. */
function nextSlot(context: SlotContext, piece: Buffer, start: number, scanned: Scanned): number | undefined {
  const salt = Buffer.alloc(8);
  salt.writeBigUInt64LE(context.salt);
  for (let found = piece.indexOf(salt); found !== -1; found = piece.indexOf(salt, found + 1)) {
    const at = found - saltAt;
    if (at < 0 || (start + at) % slotAlignment !== 0) continue;
    if (wholeSlot(context, piece, at, start, scanned.sequence) !== undefined) return at;
    const head = parseHead(context, piece, at);
    if (head !== undefined && scanned.hints.length < maxHints) scanned.hints.push(head);
  }
  return undefined;
}

function note(scanned: Scanned, slot: SlotHead, position: number): void {
  const run = scanned.runs.at(-1);
  const end = position + slot.bytes;
  if (run !== undefined && run.end === position && run.last + 1n === slot.sequence) {
    run.end = end;
    run.last = slot.sequence;
  } else {
    scanned.runs.push({ position, end, first: slot.sequence, last: slot.sequence });
  }
  scanned.wholeBytes = end;
  scanned.slots += 1;
  scanned.sequence = slot.sequence;
  if (slot.synced > scanned.synced) scanned.synced = slot.synced;
}

/** Makes one entry of consecutive blocks whose slots follow one another. */
function mergeEntries(segment: number, each?: (entry: ReplayEntry) => void) {
  let open: ReplayEntry | undefined;
  let openEnd = 0;
  const end = () => {
    if (open !== undefined) each?.(open);
    open = undefined;
  };
  const add = (slot: SlotHead, position: number) => {
    const { block, count, zeroes } = slot;
    const follows = open !== undefined && openEnd === position && open.block + open.count === block;
    if (open !== undefined && follows && !open.zeroes && !zeroes) {
      open.count += 1;
    } else {
      end();
      open = { block, count, segment, position, zeroes };
    }
    openEnd = position + slot.bytes;
  };
  return { add, end };
}

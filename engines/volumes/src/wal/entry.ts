import { blockBytes } from "../types.ts";
import { dataSlotBytes, maxZeroes, slotBytes } from "./slot.ts";

/** What is appended: one write of consecutive blocks. Data is a multiple of 4,096 bytes, lent until it is done. */
export type WalEntry = { block: number; data: Uint8Array } | { block: number; zeroes: number };

/** What goes into one slot. */
export interface SlotOf {
  block: number;
  count: number;
  /** Null: zeroes. */
  data: Uint8Array | null;
}

/** Of all its slots. */
export function entryBytes(entry: WalEntry, encrypted: boolean): number {
  return "data" in entry
    ? (entry.data.length / blockBytes) * dataSlotBytes(encrypted)
    : Math.ceil(entry.zeroes / maxZeroes) * slotBytes(encrypted);
}

export function slotCount(entry: WalEntry): number {
  return "data" in entry ? entry.data.length / blockBytes : Math.ceil(entry.zeroes / maxZeroes);
}

export function* slotsOf(entries: readonly WalEntry[]): Generator<SlotOf, undefined> {
  for (const entry of entries) {
    if ("data" in entry) {
      for (let at = 0; at < entry.data.length; at += blockBytes) {
        const data = entry.data.subarray(at, at + blockBytes);
        yield { block: entry.block + at / blockBytes, count: 1, data };
      }
    } else {
      for (let at = 0; at < entry.zeroes; at += maxZeroes) {
        yield { block: entry.block + at, count: Math.min(maxZeroes, entry.zeroes - at), data: null };
      }
    }
  }
}

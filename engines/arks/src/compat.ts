import type { DevicesRecord, HostRecord } from "./types.ts";

/** The record of QEMU's arguments (less what may differ from host to host). */
export function devicesOf(_argv: readonly string[]): DevicesRecord {
  throw new Error("under way");
}

/** What of `here` does not fit a state that was saved on `saved`, in words for people; empty: it fits. */
export function differences(_saved: HostRecord, _here: HostRecord): string[] {
  throw new Error("under way");
}

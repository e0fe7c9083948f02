import type { Readable } from "node:stream";
import type { DeviceRecord, StateManifest } from "./types.ts";

/** Stores the device state that QEMU sends, compressed, and has it on the disk when it returns. */
export function packDevice(_options: {
  /** A migration stream, to its end. */
  from: Readable | Uint8Array;
  directory: string;
  signal?: AbortSignal;
}): Promise<DeviceRecord> {
  throw new Error("under way");
}

/** The migration stream, verified. STATE_DAMAGED. */
export function unpackDevice(_options: { directory: string; manifest: StateManifest }): Promise<Uint8Array> {
  throw new Error("under way");
}

import type { StateManifest, Transfer } from "./types.ts";

export interface UnpackMemoryOptions extends Transfer {
  /** A state's, with its `memory.idx` and `memory.pack`. */
  directory: string;
  manifest: StateManifest;
  /** A file of `manifest.memory.bytes` that reads as zeros; QEMU may have it open already. */
  into: string;
}

/**
 * Writes a guest's memory back, only where it is not zero. Each stored chunk is verified before it is
 * decompressed. STATE_DAMAGED names the first chunk that is not as it was; `into` is then half filled.
 */
export function unpackMemory(_options: UnpackMemoryOptions): Promise<void> {
  throw new Error("under way");
}

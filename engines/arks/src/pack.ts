import type { MemoryRecord, Transfer } from "./types.ts";

export interface PackMemoryOptions extends Transfer {
  /** The memory file of a machine that stands still. */
  ramPath: string;
  memoryBytes: number;
  /** Where `memory.pack` and `memory.idx` are made; they must not be there yet. */
  directory: string;
}

/**
 * Stores what is not zero of a guest's memory, in chunks, and has it on the disk (fdatasync) when it
 * returns. Holes of `ramPath` stay holes. On failure, abort or a full disk, neither file is left.
 */
export function packMemory(_options: PackMemoryOptions): Promise<MemoryRecord> {
  throw new Error("under way");
}

import { bytesOfChunk } from "./index-codec.ts";
import { inParts, MemoryThreads } from "./memory-threads.ts";
import { checkMemoryFile } from "./pack.ts";
import { statePaths } from "./paths.ts";
import { checkStoredFile, chunkName, damaged, readIndex } from "./stored.ts";
import type { Damage, MemoryIndex, StateManifest, Transfer } from "./types.ts";

export interface UnpackMemoryOptions extends Transfer {
  /** A state's, with its `memory.idx` and `memory.pack`. */
  directory: string;
  manifest: StateManifest;
  /** A file of `manifest.memory.bytes` that reads as zeros; QEMU may have it open already. Absolute. */
  into: string;
}

/**
 * Writes a guest's memory back, only where it is not zero. Each stored chunk is verified before it is
 * decompressed. STATE_DAMAGED names the first chunk that is not as it was; `into` is then half filled.
 * STATE_MEMORY where `into` has another size.
 */
export async function unpackMemory(options: UnpackMemoryOptions): Promise<void> {
  const { directory, manifest, into } = options;
  await checkMemoryFile(into, manifest.memory.bytes);
  const index = await readIndex(directory, manifest.memory);
  await goThroughChunks({ ...options, index, into }, ({ object, why }) => {
    throw damaged(directory, object, why);
  });
}

/** Verifies every chunk and gives what is damaged to `onDamage`; writes the others, unless `into` is null. */
export async function goThroughChunks(
  options: Transfer & { directory: string; index: MemoryIndex; into: string | null },
  onDamage: (damage: Damage) => void,
): Promise<void> {
  const { directory, index, into, idle, signal, onProgress } = options;
  const { memoryBytes, packBytes, rows } = index;
  const { pack } = statePaths(directory);
  await checkStoredFile(directory, pack, { bytes: packBytes });
  if (rows.length === 0) return;
  const size = (part: { chunk: number }[]) =>
    part.reduce((sum, { chunk }) => sum + bytesOfChunk(chunk, memoryBytes), 0);
  const parts = [...inParts(rows)];
  const total = size(rows);
  let done = 0;
  let part = 0;
  await using threads = new MemoryThreads({ from: pack, into, memoryBytes }, idle);
  const jobs = parts.map((unpack) => ({ unpack }));
  await threads.perform(jobs, signal, (answer) => {
    if (!("damages" in answer)) return;
    for (const { row, why } of answer.damages) onDamage({ object: chunkName(row), why });
    done += size(parts[part++] ?? []);
    onProgress?.(done, total);
  });
}

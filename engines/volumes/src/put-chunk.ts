import type { PlannedChunk } from "./capture.ts";
import { type ChunkExtent, encodeChunk } from "./chunk/format.ts";
import { chunkObjectKey } from "./chunk/names.ts";
import type { Core } from "./core.ts";
import type { ChunkRow } from "./map/chunk-table.ts";
import { chunkRef, isDamage } from "./read.ts";
import type { Compression } from "./types.ts";

type Lend = (lengthBytes: number) => Buffer;

const piecesAtOnce = 256;

/** A chunk that should be compacted cannot be read. */
export class CompactionFailed extends Error {
  readonly slot: number;

  constructor(slot: number, options: ErrorOptions) {
    super(`the chunk in slot ${slot} cannot be read`, options);
    this.slot = slot;
  }
}

/** Runs of the chunk's blocks. */
export function extentsOf({ pieces }: PlannedChunk): ChunkExtent[] {
  const extents: ChunkExtent[] = [];
  for (const { block, count } of pieces) {
    const last = extents.at(-1);
    if (last !== undefined && last.block + last.count === block) last.count += count;
    else extents.push({ block, count });
  }
  return extents;
}

/**
 * Packs a chunk and puts it, until the store has it; `encoded` is told its row before that. Its bytes are in
 * memory only while an upload's turn lasts: after a failure they are made again, and are the same.
 */
export async function putChunk(
  core: Core,
  chunk: PlannedChunk,
  compression: Compression,
  encoded: (row: ChunkRow) => void,
): Promise<void> {
  const { id, env, key, ownership, counters } = core;
  const name = { volume: id, epoch: ownership.manifest.Epoch, number: chunk.number };
  const extents = extentsOf(chunk);
  const put = async (lend: Lend) => {
    const { body, headerBytes, blocks } = await encodeChunk({
      name,
      extents,
      blocks: await gather(core, chunk, lend),
      compression,
      key,
      compress: (bytes) => env.compress(bytes),
      pause: () => env.pause(),
      lend,
    });
    const { epoch, number } = name;
    const bytes = body.length;
    encoded({ source: 0, epoch, number, bytes, headerBytes, blocks, birth: 0, death: 0 });
    const ref = { name, sizeBytes: bytes, headerBytes, blocks, key };
    // No other bytes ever have that name: what this host keeps of it is right even where the put fails.
    const kept = env.reader.written(ref, body);
    const results = await Promise.allSettled([
      env.store.put(chunkObjectKey(name), body, { signal: ownership.ending }),
      kept,
    ]);
    for (const result of results) if (result.status === "rejected") throw result.reason;
    counters.bytesToStore += bytes;
  };
  await ownership.persist(
    () => env.uploads.run(() => env.uploadMemory.use(put), ownership.ending),
    (error) => error instanceof CompactionFailed,
  );
}

async function gather(core: Core, chunk: PlannedChunk, lend: Lend): Promise<Uint8Array[]> {
  const { wal, env, key, ownership, slotBytes } = core;
  const logged = chunk.pieces.reduce((sum, { isCompacted, count }) => sum + (isCompacted ? 0 : count), 0);
  // What is read of an encrypted log is other memory.
  const memory = lend(key === null ? logged * slotBytes : 0);
  let used = 0;
  const next = (lengthBytes: number) => {
    used += lengthBytes;
    return memory.subarray(used - lengthBytes, used);
  };
  const blocks: Uint8Array[] = [];
  for (const [index, { count, source, position, isCompacted }] of chunk.pieces.entries()) {
    if (index > 0 && index % piecesAtOnce === 0) await env.pause();
    if (!isCompacted) {
      const read = wal.read(source, position, count, next);
      for (const bytes of read instanceof Promise ? await read : read) blocks.push(bytes);
      continue;
    }
    try {
      const read = env.reader.read(chunkRef(core, source), position, count, { signal: ownership.ending });
      for (const bytes of read instanceof Promise ? await read : read) blocks.push(bytes);
    } catch (error) {
      if (isDamage(error)) throw new CompactionFailed(source, { cause: error });
      throw error;
    }
  }
  return blocks;
}

import type { Run } from "./capture.ts";
import { ChunkDamaged, type ChunkExtent, encodeChunk } from "../chunk/format.ts";
import { type ChunkName, chunkObjectKey } from "../chunk/names.ts";
import type { Live } from "./live.ts";
import type { ChunkRow } from "../map/chunk-table.ts";
import { isMissing, patiently } from "./store-access.ts";

/** A chunk on its way to the store. */
export interface Upload {
  /** What the map will say of it; undefined where nothing was left to be put. */
  encoded: Promise<
    (Omit<ChunkRow, "birth" | "death" | "source"> & { extents: readonly ChunkExtent[] }) | undefined
  >;
  /** Settles when the store has it. */
  done: Promise<void>;
}

/** Reads the runs and puts them as one chunk, as soon as there is room for it in memory. */
export function uploadChunk(live: Live, runs: readonly Run[]): Upload {
  const encoded = Promise.withResolvers<Awaited<Upload["encoded"]>>();
  encoded.promise.catch(() => undefined);
  const done = live.context.uploads.run(async () => {
    try {
      live.check();
      const { blocks, extents } = await gather(live, runs);
      if (extents.length === 0) {
        encoded.resolve(undefined);
        return;
      }
      const name: ChunkName = {
        volume: live.id,
        epoch: live.keeper.manifest.Epoch,
        number: live.nextChunk++,
      };
      const { compress, pause, reader } = live.context;
      const chunk = await encodeChunk({
        name,
        extents,
        blocks,
        compression: live.keeper.manifest.Compression,
        key: live.key,
        compress,
        pause,
      });
      const { body, headerBytes } = chunk;
      const row = {
        epoch: name.epoch,
        number: name.number,
        bytes: body.length,
        headerBytes,
        blocks: chunk.blocks,
      };
      encoded.resolve({ ...row, extents });
      await putObject(live, chunkObjectKey(name), body);
      const ref = { name, sizeBytes: body.length, headerBytes, blocks: chunk.blocks, key: live.key };
      await reader.written(ref, body);
    } catch (error) {
      encoded.reject(error);
      throw error;
    }
  });
  return { encoded: encoded.promise, done };
}

/** Puts a new object, again and again until the store has it. */
export async function putObject(live: Live, key: string, body: Uint8Array): Promise<void> {
  const { signal } = live.ending;
  await patiently(live.patience, async () => {
    live.counters.bytesToStore += body.length;
    await live.context.store.put(key, body, { sizeBytes: body.length, signal });
  });
}

/** What cannot be read of a chunk that is compacted stays where it is: it is lost, and the rest is not. */
async function gather(
  live: Live,
  runs: readonly Run[],
): Promise<{ blocks: Uint8Array[]; extents: ChunkExtent[] }> {
  const blocks: Uint8Array[] = [];
  const extents: ChunkExtent[] = [];
  for (const run of runs) {
    const pieces = await (run.from === "log"
      ? live.wal.read(run.source, run.position, run.count)
      : readCompacted(live, run));
    if (pieces === undefined) continue;
    for (const piece of pieces) blocks.push(piece);
    const last = extents.at(-1);
    if (last !== undefined && last.block + last.count === run.block) last.count += run.count;
    else extents.push({ block: run.block, count: run.count });
  }
  return { blocks, extents };
}

async function readCompacted(live: Live, run: Run): Promise<readonly Uint8Array[] | undefined> {
  const ref = live.chunkRef(run.source);
  try {
    return await patiently(live.patience, async () => live.context.reader.read(ref, run.position, run.count));
  } catch (error) {
    if (!(error instanceof ChunkDamaged) && !isMissing(error)) throw error;
    live.spoiled.add(run.source);
    live.context.log(`${chunkObjectKey(ref.name)} cannot be compacted: ${(error as Error).message}`);
    return undefined;
  }
}

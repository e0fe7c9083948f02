import { chunkBlocks } from "../chunk/format.ts";
import type { Live } from "./live.ts";
import { extentWords } from "../map/codec.ts";
import { hole, zero } from "../map/extent-map.ts";

/** Blocks that a drain puts into the store: from the log, or from a chunk that is compacted. */
export interface Run {
  block: number;
  count: number;
  from: "log" | "chunk";
  /** A segment, or a chunk's slot. */
  source: number;
  position: number;
}

/** The volume as it was at one instant, where the store does not have it so. */
export interface Captured {
  /** Segments up to this one are not needed once it is in the store. */
  sealed: number;
  sequence: number;
  /** Ascending by block, and apart. */
  runs: Run[];
  /** block, blocks: zeroes over what the store has. */
  zeroes: number[];
  /** All that was in the overlay: block, blocks, source, position. */
  overlay: number[];
}

/** How many chunks without dead blocks are worth being made one of. */
const manySmall = 8;
const maxVictims = 4096;

/** Chunks that are mostly dead, or small; the emptiest first. */
export function compactionVictims(live: Live, maxBlocks: number): number[] {
  const { chunks } = live.durable;
  const { ObjBlockSize, Snapshots } = live.keeper.manifest;
  const candidates = live.durable
    .compactionCandidates({
      maxLiveRatio: live.context.tuning.compactBelow,
      fullBlocks: chunkBlocks(ObjBlockSize),
      limit: maxVictims,
      snapshotVersions: Snapshots.map(({ MapVersion }) => MapVersion),
    })
    .filter((slot) => !live.spoiled.has(slot));
  const isWorth = candidates.length >= manySmall;
  const victims: number[] = [];
  let blocks = 0;
  for (const slot of candidates) {
    const alive = chunks.live(slot);
    if (!isWorth && alive * 2 > chunks.blocks(slot)) continue;
    if (blocks + alive > maxBlocks) break;
    victims.push(slot);
    blocks += alive;
  }
  return victims;
}

/** Seals the log and captures what it holds, in one turn; what the compacted chunks hold besides goes with it. */
export function capture(live: Live, compacted: readonly number[]): Captured {
  const { overlay, wal } = live;
  const sealed = wal.seal();
  const captured: Captured = { sealed, sequence: Number(wal.sequence), runs: [], zeroes: [], overlay: [] };
  overlay.forEach((block, count, source, position) => {
    captured.overlay.push(block, count, source, position);
    if (source !== zero) captured.runs.push({ block, count, from: "log", source, position });
    else {
      live.durable.extents.forRange(block, count, (at, length, slot) => {
        if (slot !== hole) captured.zeroes.push(at, length);
      });
    }
  });
  for (let i = 0; i < compacted.length; i += extentWords) {
    const [block, count, source, ordinal] = compacted.slice(i, i + extentWords) as [
      number,
      number,
      number,
      number,
    ];
    overlay.forRange(block, count, (at, length, over) => {
      if (over !== hole) return;
      captured.runs.push({ block: at, count: length, from: "chunk", source, position: ordinal + at - block });
    });
  }
  if (compacted.length > 0) captured.runs.sort((one, other) => one.block - other.block);
  return captured;
}

/** What the store has now is no longer needed from the log, unless it was written again meanwhile. */
export function forget(live: Live, captured: Captured): void {
  const { overlay } = live;
  const gone: number[] = [];
  for (let i = 0; i < captured.overlay.length; i += 4) {
    const [block, count, source, position] = captured.overlay.slice(i, i + 4) as [
      number,
      number,
      number,
      number,
    ];
    overlay.forRange(block, count, (at, length, now, place) => {
      const then = source === zero ? position : position + (at - block) * live.slotBytes;
      if (now === source && place === then) gone.push(at, length);
    });
  }
  for (let i = 0; i < gone.length; i += 2) overlay.remove(gone[i] as number, gone[i + 1] as number);
}

/** Cut into chunks of at most so many blocks. */
export function plan(runs: readonly Run[], chunkBlocks: number, slotBytes: number): Run[][] {
  const chunks: Run[][] = [];
  let chunk: Run[] = [];
  let free = chunkBlocks;
  for (const run of runs) {
    const step = run.from === "log" ? slotBytes : 1;
    for (let done = 0; done < run.count; ) {
      const count = Math.min(free, run.count - done);
      chunk.push({ ...run, block: run.block + done, count, position: run.position + done * step });
      done += count;
      free -= count;
      if (free > 0) continue;
      chunks.push(chunk);
      chunk = [];
      free = chunkBlocks;
    }
  }
  if (chunk.length > 0) chunks.push(chunk);
  return chunks;
}

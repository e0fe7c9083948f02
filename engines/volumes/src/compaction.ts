import type { Capture, Piece } from "./capture.ts";
import { uncovered } from "./capture.ts";
import { chunkBlocks } from "./chunk/format.ts";
import type { Core } from "./core.ts";

/** A drain compacts chunks of which at most this share is live, once the dead are this share of all. */
const maxLiveRatio = 0.6;
const deadShare = 0.38;
/** So many chunks more than there need be are too many. */
const spareChunks = 64;
const chunksAtOnce = 512;
/** What may be saved up for later, in chunks. */
const mostCredit = 4;
/** Small chunks are made into at least this share of a whole one, or each would be written many times. */
const leastMerged = 1 / 4;

/** Slots of chunks that could not be read: they are left alone until the volume is opened anew. */
export type Unreadable = Set<number>;

/** What of other chunks a drain writes again: at most half as much as it writes anyway, over time. */
export async function compactWith(core: Core, captured: Capture, unreadable: Unreadable): Promise<Piece[]> {
  const { map, counters } = core;
  const full = chunkBlocks(core.ownership.manifest.ObjBlockSize);
  const earned = Math.max(captured.blocks / 2, Math.min(1, captured.blocks));
  counters.credit = Math.min(counters.credit + earned, Math.max(mostCredit * full, captured.blocks / 2));
  const { ownBlocks, ownChunks, liveBlocks } = map.chunks;
  const tooEmpty = ownBlocks > 2 * full && ownBlocks - liveBlocks > deadShare * ownBlocks;
  const tooMany = ownChunks > spareChunks + (2 * ownBlocks) / full;
  if (!tooEmpty && !tooMany) return [];
  const candidates = map
    .compactionCandidates({
      maxLiveRatio,
      fullBlocks: full,
      limit: chunksAtOnce,
      snapshotVersions: snapshotVersions(core),
    })
    .filter((slot) => !unreadable.has(slot));
  const chosen: number[] = [];
  let blocks = 0;
  for (const slot of candidates) {
    const live = map.chunks.live(slot);
    if (blocks + live > counters.credit) break;
    blocks += live;
    chosen.push(slot);
  }
  // One small chunk made of one small chunk would be no gain.
  const gains = chosen.length > 1 || chosen.some((slot) => map.chunks.live(slot) < map.chunks.blocks(slot));
  if (!gains || (!tooEmpty && blocks < full * leastMerged)) return [];
  const pieces = await rewrite(core, chosen, captured);
  counters.credit -= pieces.reduce((sum, { count }) => sum + count, 0);
  return pieces;
}

/** What has to be written again so that these chunks are dead. */
export async function rewrite(core: Core, slots: readonly number[], captured: Capture): Promise<Piece[]> {
  if (slots.length === 0) return [];
  const extents = await core.map.liveExtents(slots, () => core.env.pause());
  return uncovered(extents, captured.covered);
}

/** Of all snapshots, and of what is to become one. */
export function snapshotVersions({ ownership, marks }: Pick<Core, "ownership" | "marks">): number[] {
  const marked = marks.flatMap(({ frozen }) => (frozen === null ? [] : [frozen.version]));
  return [...ownership.manifest.Snapshots.map(({ Version }) => Version), ...marked];
}

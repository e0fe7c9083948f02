import type { BlockExtent } from "@skep/nbd";
import type { Core } from "./core.ts";
import { hole, zero } from "./map/extent-map.ts";
import { blockBytes } from "./types.ts";

/** What of a range of bytes is stored and what is a hole. */
export function blockStatus(core: Core, offset: number, length: number, maxExtents: number): BlockExtent[] {
  const extents: BlockExtent[] = [];
  const { overlay, map } = core;
  const end = Math.ceil((offset + length) / blockBytes);
  for (let block = Math.floor(offset / blockBytes); block < end; ) {
    let run = overlay.find(block, end - block);
    let isHole = overlay.foundSource === zero;
    if (overlay.foundSource === hole) {
      run = map.extents.find(block, run);
      isHole = map.extents.foundSource === hole;
    }
    const from = Math.max(offset, block * blockBytes);
    const bytes = Math.min(offset + length, (block + run) * blockBytes) - from;
    const last = extents.at(-1);
    if (last?.hole === isHole) last.length += bytes;
    else if (extents.length === maxExtents) break;
    else extents.push({ length: bytes, hole: isHole, zero: isHole });
    block += run;
  }
  return extents;
}

/** Blocks that hold something, here or in the store. */
export function mappedBlocks({ overlay, map }: Core): number {
  let blocks = map.extents.blocks;
  overlay.forEach((block, count, source) => {
    const end = block + count;
    for (let at = map.extents.firstMapped(block, count); at < end; ) {
      const run = map.extents.find(at, end - at);
      if (map.extents.foundSource !== hole) blocks -= run;
      at = map.extents.firstMapped(at + run, end - at - run);
    }
    if (source !== zero) blocks += count;
  });
  return blocks;
}

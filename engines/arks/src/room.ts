import { statfs } from "node:fs/promises";
import { formatSize } from "@skep/base";
import { fail } from "./errors.ts";
import { statesDirectory } from "./paths.ts";

/** Idle guests' memory shrinks to less than a third; where more is needed, it is found out while packing. */
const leastShare = 1 / 4;
const spareBytes = 32 * 1024 ** 2;

/** STATE_DISK_SHORT where a state of that much memory could never be stored. */
export async function checkRoom(home: string, machine: string, populatedBytes: number): Promise<void> {
  const needed = populatedBytes * leastShare + spareBytes;
  const { bavail, bsize } = await statfs(statesDirectory(home)).catch(() => statfs(home));
  if (bavail * bsize >= needed) return;
  const [free, what] = [formatSize(bavail * bsize), formatSize(Math.round(needed))];
  throw fail("STATE_DISK_SHORT", { machine, needed: what, free, path: statesDirectory(home) });
}

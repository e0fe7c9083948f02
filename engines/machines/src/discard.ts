import { rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { isErrno } from "@skep/base";
import type { Context } from "./context.ts";
import { homePaths } from "./paths.ts";

/** Away from its name at once, so that a crash leaves no half machine, then bit by bit. */
export async function discard(context: Context, directory: string, id: string): Promise<void> {
  const doomed = join(homePaths(context.home).machines, `.rm-${id}`);
  try {
    await rename(directory, doomed);
  } catch (error) {
    if (!isErrno(error, "ENOENT")) throw error;
  }
  await rm(doomed, { recursive: true, force: true });
}

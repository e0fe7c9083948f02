import { createHash } from "node:crypto";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { setTimeout as sleep } from "node:timers/promises";

const busy = 5; // SQLITE_BUSY

/**
 * Runs `work` while no other process and no other job of this one holds the same key. SQLite's file
 * lock does it: Node has no flock, and the kernel drops this one when its holder dies.
 */
export async function withLock<T>(
  directory: string,
  key: string,
  signal: AbortSignal,
  onWait: () => void,
  work: () => Promise<T>,
): Promise<T> {
  await mkdir(directory, { recursive: true, mode: 0o700 });
  const file = join(directory, `${createHash("sha256").update(key).digest("hex").slice(0, 32)}.lock`);
  const database = new DatabaseSync(file, { timeout: 0 });
  try {
    let told = false;
    while (!tryLock(database)) {
      if (!told) onWait();
      told = true;
      await sleep(200, undefined, { signal });
    }
    return await work();
  } finally {
    database.close();
  }
}

function tryLock(database: DatabaseSync): boolean {
  try {
    database.exec("BEGIN EXCLUSIVE");
    return true;
  } catch (error) {
    if ((error as { errcode?: number }).errcode === busy) return false;
    throw error;
  }
}

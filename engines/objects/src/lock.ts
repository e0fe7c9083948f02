import { closeSync, mkdirSync, openSync } from "node:fs";
import { DatabaseSync } from "node:sqlite";
import { fail } from "./errors.ts";
import type { StorePaths } from "./paths.ts";

/**
 * Takes the store for this process. An exclusive SQLite transaction is a kernel's file lock: it ends
 * with the process, however that ends. STORE_LOCKED.
 */
export function lockStore(paths: StorePaths): Disposable {
  mkdirSync(paths.directory, { recursive: true, mode: 0o700 });
  closeSync(openSync(paths.lock, "a", 0o600));
  const database = new DatabaseSync(paths.lock);
  try {
    database.exec("PRAGMA busy_timeout=0; PRAGMA locking_mode=EXCLUSIVE; BEGIN EXCLUSIVE");
  } catch (error) {
    database.close();
    if ((error as { errcode?: number }).errcode !== 5) throw error; // SQLITE_BUSY
    throw fail("STORE_LOCKED", { path: paths.directory }, { cause: error });
  }
  return { [Symbol.dispose]: () => database.close() };
}

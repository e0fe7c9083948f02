import { closeSync, mkdirSync, openSync } from "node:fs";
import { dirname } from "node:path";
import { DatabaseSync } from "node:sqlite";

/**
 * Takes a file for this process; undefined where another one has it. An exclusive SQLite transaction is a
 * kernel's file lock: it ends with the process, however that ends, and needs no native add-on.
 */
export function lockFile(path: string): Disposable | undefined {
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  closeSync(openSync(path, "a", 0o600));
  const database = new DatabaseSync(path);
  try {
    database.exec("PRAGMA busy_timeout=0; PRAGMA locking_mode=EXCLUSIVE; BEGIN EXCLUSIVE");
  } catch (error) {
    database.close();
    if ((error as { errcode?: number }).errcode !== 5) throw error; // SQLITE_BUSY
    return undefined;
  }
  return { [Symbol.dispose]: () => database.close() };
}

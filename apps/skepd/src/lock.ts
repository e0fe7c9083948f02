import { closeSync, openSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { daemonFile, readFileIfThere } from "@skep/base";
import { fail } from "./errors.ts";

/** What `skepd.json` in the runtime directory says. */
export interface DaemonInfo {
  pid: number;
  version: string;
  socket: string;
  startedAt: string;
  listen: string | null;
}

/**
 * Takes the home for this process. An exclusive SQLite transaction is a kernel's file lock: it ends
 * with the process, however that ends, and needs no native add-on.
 */
export async function lockHome(home: string): Promise<Disposable> {
  const path = join(home, "skepd.lock");
  closeSync(openSync(path, "a", 0o600));
  const database = new DatabaseSync(path);
  try {
    database.exec("PRAGMA busy_timeout=0; PRAGMA locking_mode=EXCLUSIVE; BEGIN EXCLUSIVE");
  } catch (error) {
    database.close();
    if ((error as { errcode?: number }).errcode !== 5) throw error; // SQLITE_BUSY
    throw fail("DAEMON_RUNNING", { home, holder: await describeHolder(home) }, { cause: error });
  }
  return { [Symbol.dispose]: () => database.close() };
}

async function describeHolder(home: string): Promise<string> {
  try {
    const info = JSON.parse((await readFileIfThere(daemonFile(home))) ?? "") as Partial<DaemonInfo>;
    return `: pid ${info.pid}, socket ${info.socket}`;
  } catch {
    return ": it is just starting, or was started under another name of this directory";
  }
}

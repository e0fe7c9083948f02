import { closeSync, openSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { readFileIfThere } from "@skep/base";
import { fail } from "./errors.ts";

/** Which daemon of a home, and the file in the runtime directory where it says who it is. */
export interface Role {
  program: string;
  infoFile: string;
}

/**
 * Takes this role in the home for this process. An exclusive SQLite transaction is a kernel's file lock: it ends
 * with the process, however that ends, and needs no native add-on.
 */
export async function lockHome(home: string, { program, infoFile }: Role): Promise<Disposable> {
  const path = join(home, `${program}.lock`);
  closeSync(openSync(path, "a", 0o600));
  const database = new DatabaseSync(path);
  try {
    database.exec("PRAGMA busy_timeout=0; PRAGMA locking_mode=EXCLUSIVE; BEGIN EXCLUSIVE");
  } catch (error) {
    database.close();
    if ((error as { errcode?: number }).errcode !== 5) throw error; // SQLITE_BUSY
    throw fail("DAEMON_RUNNING", { program, home, holder: await describeHolder(infoFile) }, { cause: error });
  }
  return { [Symbol.dispose]: () => database.close() };
}

async function describeHolder(infoFile: string): Promise<string> {
  try {
    const info = JSON.parse((await readFileIfThere(infoFile)) ?? "") as { pid?: unknown; socket?: unknown };
    return `: pid ${info.pid}, socket ${info.socket}`;
  } catch {
    return ": it is just starting, or was started under another name of this directory";
  }
}

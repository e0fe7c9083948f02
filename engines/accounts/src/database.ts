import { chmodSync, closeSync, openSync } from "node:fs";
import { DatabaseSync } from "node:sqlite";
import { fail } from "./errors.ts";
import { makeSeal, readSeal, type Seal } from "./seal.ts";

const schemaVersion = 1;
const sealProbe = "skep";

export interface OpenDatabase {
  database: DatabaseSync;
  seal: Seal;
}

/**
 * Opens or makes the database and the file that seals its secrets. The two are made by whichever
 * process comes first; a database whose sealing file is gone or another's is refused.
 */
export function openDatabase(path: string, keyFile: string): OpenDatabase {
  closeSync(openSync(path, "a", 0o600)); // SQLite would make it readable for everyone
  chmodSync(path, 0o600);
  const database = new DatabaseSync(path);
  try {
    database.exec("PRAGMA busy_timeout=10000; PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL");
    const found = userVersion(database);
    if (found !== 0 && found !== schemaVersion) {
      throw fail("ACCOUNTS_VERSION", { path, version: found, supported: schemaVersion });
    }
    const sealed = found === 0 ? undefined : probeOf(database);
    const seal = sealed === undefined ? makeSeal(keyFile) : readSeal(keyFile);
    if (seal === undefined) throw fail("SEAL_MISSING", { path: keyFile, database: path });
    if (found === 0) createTables(database, seal);
    const probe = probeOf(database);
    if (probe === undefined)
      throw fail("ACCOUNTS_DAMAGED", { path, why: "it does not say how it is sealed" });
    if (seal.open(probe, sealProbe) !== sealProbe)
      throw fail("SEAL_WRONG", { path: keyFile, database: path });
    return { database, seal };
  } catch (error) {
    database.close();
    // SQLITE_CORRUPT, SQLITE_NOTADB
    if ([11, 26].includes((error as { errcode?: number }).errcode ?? 0)) {
      throw fail("ACCOUNTS_DAMAGED", { path, why: (error as Error).message }, { cause: error });
    }
    throw error;
  }
}

function userVersion(database: DatabaseSync): number {
  return (database.prepare("PRAGMA user_version").get() as { user_version: number }).user_version;
}

function probeOf(database: DatabaseSync): Uint8Array | undefined {
  const row = database.prepare("SELECT value FROM seal WHERE name = 'probe'").get();
  return row?.value as Uint8Array | undefined;
}

function createTables(database: DatabaseSync, seal: Seal): void {
  database.exec("BEGIN IMMEDIATE");
  try {
    // Another process may have been first while this one waited.
    if (userVersion(database) === 0) {
      database.exec(`
        CREATE TABLE seal (name TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT;
        CREATE TABLE accounts (
          id TEXT PRIMARY KEY, number TEXT NOT NULL UNIQUE, name TEXT NOT NULL UNIQUE COLLATE NOCASE,
          email TEXT COLLATE NOCASE UNIQUE, root INTEGER NOT NULL, created_at TEXT NOT NULL
        ) STRICT;
        CREATE TABLE keys (
          access_key_id TEXT PRIMARY KEY, account TEXT NOT NULL REFERENCES accounts (id),
          name TEXT NOT NULL, secret BLOB NOT NULL, scopes TEXT NOT NULL,
          created_at TEXT NOT NULL, last_used_at TEXT
        ) STRICT;
        CREATE INDEX keys_by_account ON keys (account);
        PRAGMA user_version = ${schemaVersion};
      `);
      database.prepare("INSERT INTO seal VALUES ('probe', ?)").run(seal.close(sealProbe, sealProbe));
    }
    database.exec("COMMIT");
  } catch (error) {
    database.exec("ROLLBACK");
    throw error;
  }
}

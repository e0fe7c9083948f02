import { chmodSync, closeSync, openSync } from "node:fs";
import { DatabaseSync } from "node:sqlite";
import { SkepError } from "@skep/base";

const schemaVersion = 1;

/**
 * `skep.db`: jobs and tokens. Each commit is on stable storage when it returns; a database of
 * another version is refused, not rewritten.
 */
export function openStore(path: string): DatabaseSync {
  closeSync(openSync(path, "a", 0o600)); // SQLite would make it readable for everyone
  chmodSync(path, 0o600);
  const database = new DatabaseSync(path);
  try {
    database.exec("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA busy_timeout=2000");
    const { user_version: version } = database.prepare("PRAGMA user_version").get() as {
      user_version: number;
    };
    if (version !== 0 && version !== schemaVersion) {
      const message = `${path} has version ${version}; this skep reads version ${schemaVersion}`;
      throw new SkepError("FILE_VERSION", message, { hint: "use the version of skep that wrote it" });
    }
    database.exec(`
      BEGIN;
      CREATE TABLE IF NOT EXISTS jobs (
        id TEXT PRIMARY KEY, kind TEXT NOT NULL, subject TEXT NOT NULL, state TEXT NOT NULL,
        request TEXT, notes TEXT NOT NULL DEFAULT '[]', error TEXT, result TEXT,
        created_at TEXT NOT NULL, finished_at TEXT
      ) STRICT;
      CREATE INDEX IF NOT EXISTS jobs_by_state ON jobs (state, created_at);
      CREATE TABLE IF NOT EXISTS tokens (
        id TEXT PRIMARY KEY, name TEXT NOT NULL, hash BLOB NOT NULL,
        created_at TEXT NOT NULL, expires_at TEXT, last_used_at TEXT
      ) STRICT;
      PRAGMA user_version = ${schemaVersion};
      COMMIT;
    `);
    return database;
  } catch (error) {
    database.close();
    throw error;
  }
}

import { DatabaseSync } from "node:sqlite";

/**
 * The index: derived from the journal, at any time replaceable by replaying it. Keys are blobs, for their
 * order is that of bytes and NUL is a letter like any other.
 */
const indexVersion = 1;

export type Synchronous = "full" | "normal";

const schema = `
  CREATE TABLE state (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    segment INTEGER NOT NULL, position INTEGER NOT NULL, sequence INTEGER NOT NULL
  );
  INSERT INTO state VALUES (1, 0, 0, 0);

  CREATE TABLE segments (number INTEGER PRIMARY KEY, live INTEGER NOT NULL);

  CREATE TABLE buckets (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, created INTEGER NOT NULL, owner TEXT NOT NULL,
    versioning TEXT NOT NULL, settings TEXT NOT NULL,
    objects INTEGER NOT NULL DEFAULT 0, bytes INTEGER NOT NULL DEFAULT 0,
    versions INTEGER NOT NULL DEFAULT 0, uploads INTEGER NOT NULL DEFAULT 0,
    segment INTEGER NOT NULL, position INTEGER NOT NULL, weight INTEGER NOT NULL
  );

  CREATE TABLE versions (
    bucket INTEGER NOT NULL, key BLOB NOT NULL, sequence INTEGER NOT NULL,
    version TEXT NOT NULL, marker INTEGER NOT NULL, listed INTEGER NOT NULL,
    size INTEGER NOT NULL, etag TEXT NOT NULL, modified INTEGER NOT NULL, owner TEXT NOT NULL,
    attributes TEXT, blob TEXT, upload TEXT, uploadsequence INTEGER,
    segment INTEGER NOT NULL, position INTEGER NOT NULL, weight INTEGER NOT NULL,
    inlineat INTEGER NOT NULL, inlinecrc INTEGER NOT NULL,
    PRIMARY KEY (bucket, key, sequence DESC)
  ) WITHOUT ROWID;
  -- listed: the latest version of its key and no delete marker. A listing reads nothing else.
  CREATE INDEX listed ON versions (bucket, key) WHERE listed = 1;
  CREATE INDEX versionblobs ON versions (blob) WHERE blob IS NOT NULL;
  CREATE INDEX versionuploads ON versions (uploadsequence) WHERE uploadsequence IS NOT NULL;

  CREATE TABLE uploads (
    bucket INTEGER NOT NULL, key BLOB NOT NULL, sequence INTEGER NOT NULL,
    id TEXT NOT NULL, owner TEXT NOT NULL, initiated INTEGER NOT NULL, attributes TEXT, checksum TEXT,
    segment INTEGER NOT NULL, position INTEGER NOT NULL, weight INTEGER NOT NULL,
    PRIMARY KEY (bucket, key, sequence)
  ) WITHOUT ROWID;

  CREATE TABLE parts (
    upload INTEGER NOT NULL, number INTEGER NOT NULL, size INTEGER NOT NULL, etag TEXT NOT NULL,
    modified INTEGER NOT NULL, checksum TEXT, blob TEXT NOT NULL,
    segment INTEGER NOT NULL, position INTEGER NOT NULL, weight INTEGER NOT NULL,
    PRIMARY KEY (upload, number)
  ) WITHOUT ROWID;
  CREATE INDEX partblobs ON parts (blob);
`;

/** Opens or makes an index. Undefined: another version of skep made it, and it is to be made anew. */
export function openIndex(location: string, synchronous: Synchronous): DatabaseSync | undefined {
  const database = new DatabaseSync(location);
  try {
    database.exec(`PRAGMA journal_mode=WAL; PRAGMA synchronous=${synchronous}; PRAGMA temp_store=MEMORY`);
    boundMemory(database);
    return prepareIndex(database) ? database : undefined;
  } catch (error) {
    database.close();
    throw error;
  }
}

/** Makes the tables where there are none; false where they are another version's. */
export function prepareIndex(database: DatabaseSync): boolean {
  const version = (database.prepare("PRAGMA user_version").get() as { user_version: number }).user_version;
  if (version === 0) database.exec(`BEGIN; ${schema}; PRAGMA user_version=${indexVersion}; COMMIT`);
  else if (version !== indexVersion) {
    database.close();
    return false;
  }
  return true;
}

/** A connection that only reads, for the reader's thread. */
export function openIndexToRead(path: string): DatabaseSync {
  const database = new DatabaseSync(path, { readOnly: true });
  boundMemory(database);
  return database;
}

/** 24 MiB of pages for each connection: a million keys must not take the host's memory. */
function boundMemory(database: DatabaseSync): void {
  database.exec("PRAGMA cache_size=-24576; PRAGMA mmap_size=0");
}

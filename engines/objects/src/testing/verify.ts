import assert from "node:assert/strict";
import type { DatabaseSync } from "node:sqlite";
import type { EmbeddedStore } from "../embedded.ts";
import { Journal } from "../journal/journal.ts";
import { storePaths } from "../paths.ts";
import { recover } from "../recover.ts";
import { type CrashRun, directory, readAll } from "./crash-run.ts";
import { digestOf } from "./digest.ts";
import type { KeyModel } from "./model.ts";
import { Random } from "./random.ts";
import { Schedule } from "./schedule.ts";
import { SimulatedIndex } from "./simulated-index.ts";

/** After a crash: what was acknowledged is there, nothing else is, and the store is in order. */
export async function verifyStore(run: CrashRun, store: EmbeddedStore): Promise<void> {
  await verifyPlain(run, store);
  await verifyKept(run, store);
  await verifyUploads(run, store);
  await store.sweep();
  verifyIndex(run);
}

const noPause = async () => undefined;

async function verifyPlain(run: CrashRun, store: EmbeddedStore): Promise<void> {
  const { objects } = await store.list("plain");
  const listed = new Set(objects.map((object) => object.key));
  let bytesTotal = 0;
  for (const [key, model] of run.plain) {
    const bytes = await readAll(store, "plain", key, noPause);
    const digest = bytes === undefined ? null : digestOf(bytes);
    assert.ok(
      model.allows(digest, run.now),
      `"${key}" is ${digest}, not one of ${(model as KeyModel).toString()}`,
    );
    assert.equal(listed.delete(key), bytes !== undefined, `"${key}" is listed`);
    model.settle(digest, run.now++);
    bytesTotal += bytes?.length ?? 0;
  }
  assert.deepEqual([...listed], [], "a key that nobody has put");
  const usage = await store.usage("plain");
  assert.deepEqual([usage.objects, usage.bytes], [objects.length, bytesTotal]);
}

async function verifyKept(run: CrashRun, store: EmbeddedStore): Promise<void> {
  const { versions } = await store.listVersions("kept");
  const present = new Map(versions.filter((one) => !one.deleteMarker).map((one) => [one.versionId, one]));
  for (const [versionId, version] of run.kept.versions) {
    if (version.isGone) assert.ok(!present.has(versionId), `removed version of "${version.key}" is back`);
    else if (!version.mayBeGone) assert.ok(present.has(versionId), `version of "${version.key}" is lost`);
    if (!present.has(versionId)) run.kept.versions.delete(versionId);
  }
  for (const [versionId, { key }] of present) {
    const bytes = await readAll(store, "kept", key, noPause, versionId);
    const digest = digestOf(bytes as Buffer);
    assert.ok(run.kept.tried.has(`${key} ${digest}`), `"${key}" has bytes that nobody has put`);
    const known = run.kept.versions.get(versionId);
    if (known !== undefined) assert.equal(digest, known.digest);
    run.kept.versions.set(versionId, { key, digest, mayBeGone: false, isGone: false });
  }
  const latest = versions.filter((one) => one.isLatest);
  assert.equal(
    latest.length,
    new Set(versions.map((one) => one.key)).size,
    "each key has one latest version",
  );
  const { objects } = await store.list("kept");
  assert.deepEqual(
    objects.map((one) => one.versionId),
    latest.filter((one) => !one.deleteMarker).map((one) => one.versionId),
  );
}

async function verifyUploads(run: CrashRun, store: EmbeddedStore): Promise<void> {
  for (const [id, { key, parts }] of run.uploads) {
    const page = await store.parts("plain", key, id);
    const present = new Map(page.parts.map((part) => [part.number, part.etag]));
    for (const [number, { etag }] of parts) {
      // A part that was being replaced may be the later one.
      if (number !== 9) assert.equal(present.get(number), etag, `part ${number} of an upload`);
      else assert.ok(present.has(number));
    }
  }
}

/** The index is what the journal makes of an empty one, and no blob is without a row. */
function verifyIndex(run: CrashRun): void {
  const paths = storePaths(directory);
  const fresh = new SimulatedIndex(
    new Random(1),
    new Schedule(new Random(1), Number.POSITIVE_INFINITY),
  ).open();
  try {
    const journal = Journal.open(run.files, paths, (bytes) => run.random.bytes(bytes));
    const recovery = recover(journal, fresh, { directory });
    assert.equal(recovery.tornBytes, 0);
    const present = run.index.current;
    for (const table of ["buckets", "versions", "uploads", "parts"]) {
      assert.deepEqual(rows(fresh, table), rows(present, table), `${table} after a rebuild`);
    }
    const live = "SELECT number, live FROM segments WHERE live<>0 ORDER BY number";
    assert.deepEqual(fresh.prepare(live).all(), present.prepare(live).all(), "live bytes of segments");
    const named = fresh
      .prepare("SELECT blob FROM versions WHERE blob IS NOT NULL UNION ALL SELECT blob FROM parts")
      .all()
      .map((row) => paths.blob(row.blob as string))
      .sort();
    const blobs = run.files.paths().filter((path) => path.startsWith(`${paths.blobs}/`));
    assert.deepEqual(blobs, named, "blobs on disk and in the index");
  } finally {
    fresh.close();
  }
}

function rows(database: DatabaseSync, table: string): unknown[] {
  return database.prepare(`SELECT * FROM ${table} ORDER BY 1, 2, 3`).all();
}

import type { DatabaseSync } from "node:sqlite";
import { crc32 } from "node:zlib";
import { isErrno } from "@skep/base";
import { isInline } from "../commit/plan-versions.ts";
import type { Files, SyncFile } from "../files.ts";
import { type IndexedVersion, IndexQueries } from "../index/queries.ts";
import type { StorePaths } from "../paths.ts";
import { checkRecords, checkSegment } from "./check.ts";
import { listObjects, listUploads, listVersions } from "./listing.ts";
import type { Findings, FoundVersion, Query, QueryKind, QueryOf } from "./queries.ts";

/** Segments kept open for reading. */
const openSegments = 64;

/** Answers from the index and from the journal; sees what is committed, and changes nothing. */
export class Reader {
  readonly #files: Files;
  readonly #paths: StorePaths;
  readonly #queries: IndexQueries;
  /** By number, the one used last at the end. */
  readonly #segments = new Map<number, SyncFile>();

  constructor(files: Files, paths: StorePaths, index: DatabaseSync) {
    this.#files = files;
    this.#paths = paths;
    this.#queries = new IndexQueries(index);
  }

  read<K extends QueryKind>(query: QueryOf<K>): Findings[K] {
    return this.#find(query) as Findings[K];
  }

  #find(query: Query): Findings[QueryKind] {
    const queries = this.#queries;
    switch (query.kind) {
      case "buckets":
        return queries.buckets();
      case "usage":
        return queries.usage(query.bucket);
      case "version":
        return this.#version(query);
      case "list":
        return listObjects(queries, query.bucket, query.request);
      case "versions":
        return listVersions(queries, query.bucket, query.request);
      case "upload":
        return queries.upload(query.bucket, query.key, query.id);
      case "parts":
        return queries.parts(query.upload, query.after, query.limit);
      case "completed": {
        const version = queries.completed(query.bucket, query.key, query.id);
        return version === undefined ? undefined : this.#withParts(version);
      }
      case "uploads":
        return listUploads(queries, query.bucket, query.request);
      case "knownBlobs":
        return query.names.map((name) => queries.hasBlob(name));
      case "checkRecords":
        return checkRecords(this.#files, this.#paths, query.places);
      case "checkSegment":
        return checkSegment(this.#files, this.#paths, query.segment);
    }
  }

  #version({ bucket, key, versionId, bytes }: QueryOf<"version">): FoundVersion | undefined {
    for (let attempt = 0; ; attempt += 1) {
      const version =
        versionId === undefined
          ? this.#queries.latest(bucket, key)
          : this.#queries.version(bucket, key, versionId);
      if (version === undefined) return undefined;
      if (!bytes || !isInline(version)) return this.#withParts(version);
      try {
        return { version, ...this.#inline(version) };
      } catch (error) {
        // Cleaning has moved it between the look-up and the reading: the next look-up finds it.
        if (!isErrno(error, "ENOENT") || attempt === 10) throw error;
      }
    }
  }

  #withParts(version: IndexedVersion): FoundVersion {
    if (version.upload === undefined) return { version };
    return { version, parts: this.#queries.parts(version.upload.sequence) };
  }

  #inline({
    segment,
    sizeBytes,
    inlineAt,
    inlineCrc,
  }: IndexedVersion): Pick<FoundVersion, "inline" | "damage"> {
    // Memory of its own, for it is handed to another thread.
    const buffer = new Uint8Array(sizeBytes);
    const count = this.#segment(segment).read(buffer, inlineAt);
    if (count < sizeBytes) return { damage: "its bytes in the journal are cut off" };
    if (crc32(buffer) !== inlineCrc) return { damage: "its bytes in the journal are not what was written" };
    return { inline: buffer };
  }

  #segment(number: number): SyncFile {
    let file = this.#segments.get(number);
    if (file === undefined) {
      file = this.#files.openSync(this.#paths.segment(number), "read");
      const oldest = this.#segments.size >= openSegments ? this.#segments.entries().next().value : undefined;
      if (oldest !== undefined) {
        oldest[1].close();
        this.#segments.delete(oldest[0]);
      }
    }
    this.#segments.delete(number);
    this.#segments.set(number, file);
    return file;
  }

  close(): void {
    for (const file of this.#segments.values()) file.close();
    this.#segments.clear();
  }
}

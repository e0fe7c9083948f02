import type { BlobLifetimes } from "./blobs/lifetimes.ts";
import { BlobDamage, lentMemory, newMemory, readBlob, type TakeMemory } from "./blobs/read.ts";
import { partInfo } from "./commit/plan-uploads.ts";
import { fail } from "./errors.ts";
import type { Files } from "./files.ts";
import type { IndexedVersionRow, PartRow } from "./index/rows.ts";
import type { StorePaths } from "./paths.ts";
import { type FoundVersion, type ListedRow, listedKey } from "./read/queries.ts";
import type { Attributes, ByteRange, Bytes, ObjectFile, ObjectVersion, OpenVersion } from "./types.ts";

/** A row as the outside sees it. */
export function versionInfo(row: IndexedVersionRow, parts?: readonly PartRow[]): ObjectVersion {
  return {
    key: row.key,
    sizeBytes: row.sizeBytes,
    etag: row.etag,
    modifiedAt: row.modifiedAt,
    versionId: row.versionId,
    isLatest: row.isLatest,
    deleteMarker: row.deleteMarker === true,
    owner: row.owner,
    attributes: row.attributes ?? {},
    ...(parts === undefined ? {} : { parts: parts.map(partInfo) }),
  };
}

/** A row of a listing as the outside sees it. */
export function listedInfo(row: ListedRow): ObjectVersion {
  const [, , versionId, sizeBytes, etag, modifiedAt, owner, attributes] = row;
  return {
    key: listedKey(row),
    sizeBytes,
    etag,
    modifiedAt,
    versionId,
    isLatest: true,
    deleteMarker: false,
    owner,
    attributes: attributes === null ? {} : (JSON.parse(attributes) as Attributes),
  };
}

/** The blobs that hold a version's bytes, in order. */
export function piecesOf({ version, parts }: FoundVersion): { blob: string; sizeBytes: number }[] {
  if (version.blob !== undefined) return [{ blob: version.blob, sizeBytes: version.sizeBytes }];
  return (parts ?? []).map(({ blob, sizeBytes }) => ({ blob, sizeBytes }));
}

/** The part of `range` that an object has. RANGE_INVALID where it has none of it. */
export function clampRange(range: Partial<ByteRange> | undefined, key: string, sizeBytes: number): ByteRange {
  if (range === undefined) return { start: 0, end: sizeBytes };
  const start = range.start ?? 0;
  const end = Math.min(range.end ?? sizeBytes, sizeBytes);
  const whole = start === 0 && sizeBytes === 0 && (range.end ?? 0) >= 0;
  if (!whole && (start < 0 || start >= sizeBytes || end <= start)) {
    throw fail("RANGE_INVALID", { key, sizeBytes });
  }
  return { start, end };
}

/** A version that was looked up; its blobs stay until it is closed. */
export class StoredVersion implements OpenVersion {
  readonly version: ObjectVersion;
  readonly inline?: Uint8Array;
  readonly file?: Omit<ObjectFile, "release">;
  readonly #found: FoundVersion;
  readonly #given: { bucket: string; files: Files; paths: StorePaths; lifetimes: BlobLifetimes };
  #isOpen = true;

  constructor(
    found: FoundVersion,
    given: { bucket: string; files: Files; paths: StorePaths; lifetimes: BlobLifetimes },
  ) {
    this.version = versionInfo(found.version, found.parts);
    if (found.inline !== undefined) this.inline = found.inline;
    const [blob, ...others] = piecesOf(found);
    if (blob !== undefined && others.length === 0) {
      this.file = { path: given.paths.blob(blob.blob), offset: 0, sizeBytes: blob.sizeBytes };
    }
    this.#found = found;
    this.#given = given;
  }

  async *read(range?: ByteRange, options: { signal?: AbortSignal; lend?: boolean } = {}): Bytes {
    if (this.version.deleteMarker) return;
    const { start, end } = clampRange(range, this.version.key, this.version.sizeBytes);
    if (this.#found.damage !== undefined) throw this.#damage(this.#found.damage);
    if (this.inline !== undefined) {
      if (end > start) yield this.inline.subarray(start, end);
      return;
    }
    const how = { signal: options.signal, memory: options.lend === true ? lentMemory() : newMemory };
    let begin = 0;
    for (const { blob, sizeBytes } of piecesOf(this.#found)) {
      const from = Math.max(0, start - begin);
      const to = Math.min(sizeBytes, end - begin);
      begin += sizeBytes;
      if (from < to) yield* this.#readBlob(blob, sizeBytes, from, to, how);
    }
  }

  async *#readBlob(
    blob: string,
    sizeBytes: number,
    start: number,
    end: number,
    how: { signal: AbortSignal | undefined; memory: TakeMemory },
  ): Bytes {
    const { files, paths } = this.#given;
    try {
      yield* readBlob(files, paths.blob(blob), sizeBytes, start, end, how);
    } catch (error) {
      if (error instanceof BlobDamage) throw this.#damage(error.message, error);
      throw error;
    }
  }

  #damage(why: string, cause?: unknown): Error {
    return fail("OBJECT_DAMAGED", { bucket: this.#given.bucket, key: this.version.key, why }, { cause });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    this.#given.lifetimes.close(piecesOf(this.#found).map(({ blob }) => blob));
  }
}

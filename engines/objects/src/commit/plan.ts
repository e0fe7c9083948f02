import { fail } from "../errors.ts";
import type { IndexedVersion, IndexQueries } from "../index/queries.ts";
import type { BucketRow, Mutation } from "../index/rows.ts";
import type { Condition } from "../types.ts";

/** What an operation comes to: its record of the journal, and its answer. */
export interface Plan {
  /** None where there is nothing to change. */
  mutations: Mutation[];
  /** The body for the record. */
  inline?: Uint8Array;
  result: unknown;
  /** No row will point to them. */
  removedBlobs?: string[];
}

/** What plans are made from. Making one only reads. */
export interface Planning {
  readonly queries: IndexQueries;
  readonly buckets: ReadonlyMap<number, BucketRow>;
  /** Of the record that the plan becomes. */
  readonly sequence: number;
  readonly minimumPartBytes: number;
  readonly now: number;
  random(bytes: number): Uint8Array;
  /** The verified body of a small object. OBJECT_DAMAGED. */
  readInline(version: IndexedVersion): Uint8Array;
}

export function bucketOrFail(planning: Planning, id: number): BucketRow {
  const bucket = planning.buckets.get(id);
  if (bucket === undefined) throw fail("BUCKET_NOT_FOUND", { bucket: "" });
  return bucket;
}

/** PRECONDITION_FAILED; OBJECT_NOT_FOUND where a match with something is asked for and nothing is there. */
export function checkCondition(
  condition: Condition | undefined,
  present: IndexedVersion | undefined,
  bucket: string,
  key: string,
): void {
  if (condition === undefined) return;
  const { ifMatch, ifNoneMatch, ifModifiedAt, ifSizeBytes } = condition;
  const object = present?.deleteMarker === true ? undefined : present;
  const failed = (why: string) => fail("PRECONDITION_FAILED", { bucket, key, why });
  if (object === undefined) {
    if (ifMatch !== undefined || ifModifiedAt !== undefined || ifSizeBytes !== undefined) {
      throw fail("OBJECT_NOT_FOUND", { bucket, key });
    }
    return;
  }
  if (ifMatch !== undefined && ifMatch !== "*" && ifMatch !== object.etag) {
    throw failed(`its ETag is ${object.etag}`);
  }
  if (ifNoneMatch === "*") throw failed("it exists");
  if (ifNoneMatch !== undefined && ifNoneMatch === object.etag) throw failed(`its ETag is ${object.etag}`);
  if (
    ifModifiedAt !== undefined &&
    Math.floor(ifModifiedAt / 1000) !== Math.floor(object.modifiedAt / 1000)
  ) {
    throw failed("it was modified at another time");
  }
  if (ifSizeBytes !== undefined && ifSizeBytes !== object.sizeBytes) {
    throw failed(`it has ${object.sizeBytes} bytes`);
  }
}

/** The blobs of a version: its own, or those of its parts. */
export function blobsOf(queries: IndexQueries, version: IndexedVersion): string[] {
  if (version.blob !== undefined) return [version.blob];
  if (version.upload === undefined) return [];
  return queries.parts(version.upload.sequence).map((part) => part.blob);
}

/** The rows of a version that go with it. */
export function removalOf(version: IndexedVersion): Mutation[] {
  const { bucket, key, sequence, upload } = version;
  return [
    { remove: "version", bucket, key, sequence },
    ...(upload === undefined ? [] : [{ remove: "parts" as const, upload: upload.sequence }]),
  ];
}

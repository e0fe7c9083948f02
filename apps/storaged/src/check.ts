import { toSkepError } from "@skep/base";
import type { BucketStore, ObjectVersion } from "@skep/objects";

/** What a check of the stored data found. */
export interface StoreCheck {
  /** Versions and bytes that were read, and that there are. */
  versions: number;
  bytes: number;
  totalVersions: number;
  totalBytes: number;
  /** Of each damaged version its bucket, key, version and what is wrong; at most a hundred. */
  damaged: { bucket: string; key: string; versionId: string; why: string }[];
}

const listed = 100;

/** Reads every version and has its checksums compared; ends early after `forMs`, or when the signal says so. */
export async function checkStore(
  store: BucketStore,
  signal: AbortSignal,
  forMs = Number.POSITIVE_INFINITY,
): Promise<StoreCheck> {
  const result: StoreCheck = { versions: 0, bytes: 0, totalVersions: 0, totalBytes: 0, damaged: [] };
  const until = performance.now() + forMs;
  for (const { name } of await store.buckets()) {
    const usage = await store.usage(name);
    result.totalVersions += usage.versions;
    result.totalBytes += usage.bytes;
    for await (const version of versionsOf(store, name)) {
      if (signal.aborted || performance.now() > until) break;
      const why = await readThrough(store, name, version, signal);
      if (why !== undefined && result.damaged.length < listed) {
        result.damaged.push({ bucket: name, key: version.key, versionId: version.versionId, why });
      }
      result.versions += 1;
      result.bytes += version.sizeBytes;
    }
  }
  return result;
}

async function* versionsOf(store: BucketStore, bucket: string): AsyncGenerator<ObjectVersion> {
  let marker: { keyMarker?: string; versionMarker?: string } = {};
  for (;;) {
    const page = await store.listVersions(bucket, marker);
    yield* page.versions;
    const { nextKeyMarker: keyMarker, nextVersionMarker: versionMarker } = page;
    if (!page.truncated || keyMarker === undefined) return;
    marker = versionMarker === undefined ? { keyMarker } : { keyMarker, versionMarker };
  }
}

/** What is wrong with a version; undefined where it is whole, or gone since it was listed. */
async function readThrough(
  store: BucketStore,
  bucket: string,
  { key, versionId }: ObjectVersion,
  signal: AbortSignal,
): Promise<string | undefined> {
  try {
    await using version = await store.open(bucket, key, versionId);
    for await (const _ of version.read(undefined, signal));
    return undefined;
  } catch (error) {
    const failure = toSkepError(error);
    return failure.status === 404 || signal.aborted ? undefined : failure.message;
  }
}

/**
 * What lifecycle rules remove, and when. Times are counted in days of UTC: what is due during a day goes
 * at the next midnight, as in S3. Source: S3 user guide, "Lifecycle actions and the rules' evaluation".
 */
import { setTimeout as sleep } from "node:timers/promises";
import { toSkepError } from "@skep/base";
import type { Bucket, BucketStore, ObjectVersion } from "@skep/objects";
import { type LifecycleFilter, type LifecycleRule, lifecycleOf } from "./configuration/lifecycle-rules.ts";
import type { Clock, Log } from "./context.ts";

const realDayMs = 86_400_000;
const pageSize = 1000;
/** Deletes under way at once: each waits for the disk, and those that wait together are written together. */
const maxDeletes = 16;

export interface LifecycleOptions {
  store: BucketStore;
  clock: Clock;
  log: Pick<Log, "info" | "warn">;
  signal: AbortSignal;
  /** The length of a day in rules, for tests; without rounding to midnights where it is not a real one. */
  dayMs?: number;
}

/** Up to where a run came: everything of this bucket's keys up to `key` is done. */
export interface LifecyclePosition {
  bucket: string;
  key?: string;
}

export interface LifecycleResult {
  /** Objects that got a delete marker or, without versioning, went; versions and markers that went; uploads. */
  expired: number;
  removedVersions: number;
  abortedUploads: number;
  /** Where the next run goes on, if the signal ended this one. */
  stoppedAt?: LifecyclePosition;
}

/** `expiry-date="…", rule-id="…"` for the answer to a put or get; always in real days. */
export function expirationHeader(bucket: Bucket, object: ObjectVersion): string | undefined {
  const rules = lifecycleOf(bucket);
  if (rules === undefined || object.deleteMarker || !object.isLatest) return undefined;
  let first: { at: number; id: string } | undefined;
  for (const rule of rules) {
    const at = expiresAt(rule, object, realDayMs);
    if (at !== undefined && (first === undefined || at < first.at)) first = { at, id: rule.id };
  }
  if (first === undefined) return undefined;
  const id = encodeURIComponent(first.id).replaceAll("%2F", "/");
  return `expiry-date="${new Date(first.at).toUTCString()}", rule-id="${id}"`;
}

/** When a rule lets the current version expire, if it does. */
function expiresAt(rule: LifecycleRule, object: ObjectVersion, dayMs: number): number | undefined {
  const { expiration } = rule;
  if (expiration === undefined || "deleteMarkers" in expiration || !fits(rule, object)) return undefined;
  return "at" in expiration ? expiration.at : dueAt(object.modifiedAt, expiration.days, dayMs);
}

function dueAt(since: number, days: number, dayMs: number): number {
  const at = since + days * dayMs;
  return dayMs === realDayMs ? Math.ceil(at / dayMs) * dayMs : at;
}

function fits({ enabled, filter }: LifecycleRule, object: ObjectVersion): boolean {
  if (!enabled || !object.key.startsWith(filter.prefix ?? "")) return false;
  // A delete marker has neither size nor tags.
  if (object.deleteMarker) return !isNarrow(filter);
  if (filter.largerThan !== undefined && object.sizeBytes <= filter.largerThan) return false;
  if (filter.smallerThan !== undefined && object.sizeBytes >= filter.smallerThan) return false;
  const tags = object.attributes.tags ?? {};
  return Object.entries(filter.tags ?? {}).every(
    ([key, value]) => Object.hasOwn(tags, key) && tags[key] === value,
  );
}

function isNarrow({ tags, largerThan, smallerThan }: LifecycleFilter): boolean {
  return tags !== undefined || largerThan !== undefined || smallerThan !== undefined;
}

/**
 * One walk over all buckets that have rules. Page by page; removing twice does no harm, and neither does
 * what is written meanwhile: an object is only removed as long as it is the one that was seen.
 */
export async function runLifecycle(
  options: LifecycleOptions,
  from?: LifecyclePosition,
): Promise<LifecycleResult> {
  const result: LifecycleResult = { expired: 0, removedVersions: 0, abortedUploads: 0 };
  let after: string | undefined;
  for (;;) {
    const page = await options.store.buckets({ ...(after === undefined ? {} : { after }), limit: pageSize });
    for (const bucket of page) {
      after = bucket.name;
      const rules = lifecycleOf(bucket)?.filter(({ enabled }) => enabled) ?? [];
      if (rules.length === 0 || (from !== undefined && bucket.name < from.bucket)) continue;
      try {
        const startAfter = bucket.name === from?.bucket ? from.key : undefined;
        const key = await walkVersions(options, bucket, rules, result, startAfter);
        if (options.signal.aborted) {
          result.stoppedAt = { bucket: bucket.name, ...(key === undefined ? {} : { key }) };
          return result;
        }
        await walkUploads(options, bucket, rules, result);
      } catch (error) {
        // A bucket that was removed, or that is damaged, keeps no other from being tidied.
        options.log.warn({ bucket: bucket.name, error: toSkepError(error).toJSON() }, "lifecycle failed");
      }
    }
    if (page.length < pageSize) return result;
  }
}

/** Runs again and again until the signal, a few times a day (in rules' days). */
export async function keepLifecycle(options: LifecycleOptions): Promise<void> {
  const pauseMs = Math.max(500, (options.dayMs ?? realDayMs) / 24);
  let from: LifecyclePosition | undefined;
  while (!options.signal.aborted) {
    const result = await runLifecycle(options, from);
    from = result.stoppedAt;
    if (result.expired + result.removedVersions + result.abortedUploads > 0) {
      options.log.info({ ...result }, "lifecycle rules removed objects");
    }
    await sleep(pauseMs, undefined, { signal: options.signal }).catch(() => {});
  }
}

/** What has been seen of the key whose versions are being listed, newest first. */
interface KeyState {
  key: string;
  current: ObjectVersion;
  /** When the version after the last one seen became noncurrent. */
  supersededAt: number;
  noncurrent: number;
  /** Versions besides the current one that stay. */
  kept: number;
}

/** Gives the last key that is done with, for a walk that was stopped. */
async function walkVersions(
  { store, clock, signal, dayMs = realDayMs }: LifecycleOptions,
  bucket: Bucket,
  rules: readonly LifecycleRule[],
  result: LifecycleResult,
  startAfter: string | undefined,
): Promise<string | undefined> {
  const now = clock.now();
  let done = startAfter;
  let state: KeyState | undefined;
  const deletes = new Set<Promise<void>>();
  const settled = async () => void (await Promise.all(deletes));
  const start = async (version: ObjectVersion, count: "expired" | "removedVersions") => {
    if (deletes.size >= maxDeletes) await Promise.race(deletes);
    const one = remove(store, bucket, version, count === "removedVersions").then((removed) => {
      if (removed) result[count]++;
      deletes.delete(one);
    });
    // A failure is met by whoever waits for it next.
    one.catch(() => {});
    deletes.add(one);
  };
  const finish = async () => {
    if (state === undefined) return;
    const { current, kept } = state;
    if (!current.deleteMarker) {
      const due = rules.some((rule) => (expiresAt(rule, current, dayMs) ?? Infinity) <= now);
      if (due) await start(current, "expired");
    } else if (kept === 0 && rules.some((rule) => markerIsDue(rule, current, now, dayMs))) {
      // Without its marker a version that is still there would come to light.
      await settled();
      await start(current, "removedVersions");
    }
    done = state.key;
  };
  let keyMarker = startAfter;
  let versionMarker: string | undefined;
  for (;;) {
    const page = await store.listVersions(bucket.name, {
      limit: pageSize,
      ...(keyMarker === undefined ? {} : { keyMarker }),
      ...(versionMarker === undefined ? {} : { versionMarker }),
    });
    for (const version of page.versions) {
      if (signal.aborted) {
        await settled();
        return done;
      }
      if (state?.key !== version.key) {
        await finish();
        state = {
          key: version.key,
          current: version,
          supersededAt: version.modifiedAt,
          noncurrent: 0,
          kept: 0,
        };
        continue;
      }
      const due = rules.some((rule) => noncurrentIsDue(rule, version, state!, now, dayMs));
      state.noncurrent++;
      state.supersededAt = version.modifiedAt;
      if (due) await start(version, "removedVersions");
      else state.kept++;
    }
    if (!page.truncated) break;
    keyMarker = page.nextKeyMarker;
    versionMarker = page.nextVersionMarker;
  }
  await finish();
  await settled();
  return done;
}

function noncurrentIsDue(
  rule: LifecycleRule,
  version: ObjectVersion,
  { supersededAt, noncurrent }: KeyState,
  now: number,
  dayMs: number,
): boolean {
  if (rule.noncurrent === undefined || !fits(rule, version)) return false;
  if (noncurrent < (rule.noncurrent.newer ?? 0)) return false;
  return dueAt(supersededAt, rule.noncurrent.days, dayMs) <= now;
}

/** A marker that hides nothing any more. */
function markerIsDue(rule: LifecycleRule, marker: ObjectVersion, now: number, dayMs: number): boolean {
  if (rule.expiration === undefined || !fits(rule, marker)) return false;
  if ("deleteMarkers" in rule.expiration) return rule.expiration.deleteMarkers;
  return (expiresAt(rule, marker, dayMs) ?? Infinity) <= now;
}

/** The version named, or the current one if it still is the one that was seen. False where it was not. */
async function remove(
  store: BucketStore,
  bucket: Bucket,
  version: ObjectVersion,
  named: boolean,
): Promise<boolean> {
  try {
    await store.delete(bucket.name, version.key, {
      owner: bucket.owner,
      ...(named
        ? { versionId: version.versionId }
        : { condition: { ifMatch: version.etag, ifModifiedAt: version.modifiedAt } }),
    });
    return true;
  } catch (error) {
    if ([404, 412].includes(toSkepError(error).status)) return false;
    throw error;
  }
}

async function walkUploads(
  { store, clock, signal, dayMs = realDayMs }: LifecycleOptions,
  bucket: Bucket,
  rules: readonly LifecycleRule[],
  result: LifecycleResult,
): Promise<void> {
  const aborting = rules.filter(({ abortDays }) => abortDays !== undefined);
  if (aborting.length === 0) return;
  const now = clock.now();
  let markers: { keyMarker?: string; uploadMarker?: string } = {};
  for (;;) {
    const page = await store.uploads(bucket.name, { ...markers, limit: pageSize });
    for (const upload of page.uploads) {
      if (signal.aborted) return;
      const due = aborting.some(
        ({ filter, abortDays }) =>
          upload.key.startsWith(filter.prefix ?? "") && dueAt(upload.initiatedAt, abortDays!, dayMs) <= now,
      );
      if (!due) continue;
      await store.abortUpload(bucket.name, upload.key, upload.id);
      result.abortedUploads++;
    }
    if (!page.truncated) return;
    markers = {
      ...(page.nextKeyMarker === undefined ? {} : { keyMarker: page.nextKeyMarker }),
      ...(page.nextUploadMarker === undefined ? {} : { uploadMarker: page.nextUploadMarker }),
    };
  }
}

/** The lifecycle configuration of a bucket. Source: the S3 API reference, "PutBucketLifecycleConfiguration". */
import { randomUUID } from "node:crypto";
import type { Bucket, Json } from "@skep/objects";
import type { S3Request, S3Response } from "../context.ts";
import { fail } from "../errors.ts";
import { document, isoTime, nest, tag, type XmlElement } from "../xml.ts";
import { checkTags, parseTag, type Tags } from "./tags.ts";

const maxBodyBytes = 1024 * 1024;
const maxRules = 1000;
const maxIdLength = 255;
const maxNewerVersions = 100;
const dayMs = 86_400_000;

/** What an object must be for a rule to be about it: all of this. */
export interface LifecycleFilter {
  readonly prefix?: string;
  readonly tags?: Tags;
  /** Both exclusive. */
  readonly largerThan?: number;
  readonly smallerThan?: number;
}

export interface LifecycleRule {
  readonly id: string;
  readonly enabled: boolean;
  readonly filter: LifecycleFilter;
  /** Written as before filters came, with a Prefix of its own; answered so too. */
  readonly plainPrefix: boolean;
  readonly expiration?:
    | { readonly days: number }
    | { readonly at: number }
    | { readonly deleteMarkers: boolean };
  readonly noncurrent?: { readonly days: number; readonly newer?: number };
  /** Unfinished uploads go after so many days. */
  readonly abortDays?: number;
}

export function lifecycleOf(bucket: Bucket): readonly LifecycleRule[] | undefined {
  return bucket.settings.lifecycle as unknown as readonly LifecycleRule[] | undefined;
}

export async function putBucketLifecycle(request: S3Request): Promise<S3Response> {
  const rules = parseLifecycle(await request.xmlBody("LifecycleConfiguration", maxBodyBytes));
  const lifecycle = rules as unknown as Json;
  await request.store.updateBucket(request.bucket.name, { settings: { lifecycle } });
  return {};
}

export function getBucketLifecycle({ bucket }: S3Request): S3Response {
  const rules = lifecycleOf(bucket);
  if (rules === undefined) throw fail("NoSuchLifecycleConfiguration", { BucketName: bucket.name });
  return { body: document("LifecycleConfiguration", ...rules.map(ruleToXml)) };
}

export async function deleteBucketLifecycle({ bucket, store }: S3Request): Promise<S3Response> {
  await store.updateBucket(bucket.name, { settings: { lifecycle: undefined } });
  return { status: 204 };
}

/** MalformedXML, InvalidArgument, InvalidRequest; NotImplemented for transitions. */
export function parseLifecycle(xml: XmlElement): LifecycleRule[] {
  const rules = xml.children.map((child) => {
    if (child.name !== "Rule") throw fail("MalformedXML");
    return parseRule(child);
  });
  if (rules.length === 0 || rules.length > maxRules) throw fail("MalformedXML");
  if (new Set(rules.map(({ id }) => id)).size !== rules.length) {
    throw invalid("Rule ID must be unique. Found same ID for more than one rule");
  }
  return rules;
}

function parseRule(xml: XmlElement): LifecycleRule {
  const id = xml.textOf("ID") || randomUUID();
  if (id.length > maxIdLength) throw invalid("ID length should not exceed allowed limit of 255");
  const status = xml.textOf("Status")?.trim();
  if (status !== "Enabled" && status !== "Disabled") throw fail("MalformedXML");
  const prefix = xml.textOf("Prefix");
  const filter = xml.child("Filter");
  if ((prefix === undefined) === (filter === undefined)) throw fail("MalformedXML");
  const rule: LifecycleRule = {
    id,
    enabled: status === "Enabled",
    filter: filter === undefined ? { prefix: prefix! } : parseFilter(filter),
    plainPrefix: filter === undefined,
    ...parseExpiration(xml.child("Expiration")),
    ...parseNoncurrent(xml.child("NoncurrentVersionExpiration")),
    ...parseAbort(xml.child("AbortIncompleteMultipartUpload")),
  };
  refuseTransitions(xml);
  if (rule.expiration === undefined && rule.noncurrent === undefined && rule.abortDays === undefined) {
    throw fail("InvalidRequest", { why: "At least one action needs to be specified in a rule" });
  }
  refuseMisfits(rule);
  return rule;
}

/** What these actions remove has no tags and no size. */
function refuseMisfits({ filter, expiration, abortDays }: LifecycleRule): void {
  const narrow = filter.tags ?? filter.largerThan ?? filter.smallerThan;
  if (narrow === undefined) return;
  const why = (action: string) => `${action} cannot be specified with tags or object sizes`;
  if (abortDays !== undefined) {
    throw fail("InvalidRequest", { why: why("AbortIncompleteMultipartUpload") });
  }
  if (expiration !== undefined && "deleteMarkers" in expiration) {
    throw fail("InvalidRequest", { why: why("ExpiredObjectDeleteMarker") });
  }
}

/** A date in a transition that is none is told first. */
function refuseTransitions(xml: XmlElement): void {
  const transitions = [...xml.all("Transition"), ...xml.all("NoncurrentVersionTransition")];
  if (transitions.length === 0) return;
  for (const transition of transitions) {
    const date = transition.textOf("Date");
    if (date !== undefined) parseDate(date);
  }
  throw fail("NotImplemented", { what: "A transition to another storage class" });
}

/**
 * S3 takes one condition outside of And; Ceph's tests give several and mean all of them. Read as all of
 * them, such a filter never fits more than its author thought.
 */
function parseFilter(xml: XmlElement): LifecycleFilter {
  const and = xml.child("And");
  const places = and === undefined ? [xml] : [xml, and];
  const tags: [string, string][] = [];
  const filter: { prefix?: string; largerThan?: number; smallerThan?: number } = {};
  for (const place of places) {
    const prefix = place.textOf("Prefix");
    const larger = place.textOf("ObjectSizeGreaterThan");
    const smaller = place.textOf("ObjectSizeLessThan");
    if (prefix !== undefined) filter.prefix = bothPrefixes(filter.prefix, prefix);
    if (larger !== undefined) filter.largerThan = Math.max(filter.largerThan ?? 0, parseCount(larger, 0));
    if (smaller !== undefined) {
      filter.smallerThan = Math.min(filter.smallerThan ?? Number.MAX_SAFE_INTEGER, parseCount(smaller, 1));
    }
    tags.push(...place.all("Tag").map(parseTag));
  }
  const { largerThan = 0, smallerThan } = filter;
  if (smallerThan !== undefined && smallerThan <= largerThan + 1) {
    throw invalid("'ObjectSizeLessThan' has to be a value greater than 'ObjectSizeGreaterThan'");
  }
  return tags.length === 0 ? filter : { ...filter, tags: checkTags(tags, 10) };
}

/** The longer one, if it begins with the other; else nothing could fit both. */
function bothPrefixes(a: string | undefined, b: string): string {
  if (a === undefined || b.startsWith(a)) return b;
  if (a.startsWith(b)) return a;
  throw fail("MalformedXML");
}

function parseExpiration(xml: XmlElement | undefined): Pick<LifecycleRule, "expiration"> {
  if (xml === undefined) return {};
  const days = xml.textOf("Days");
  const date = xml.textOf("Date");
  const markers = xml.textOf("ExpiredObjectDeleteMarker")?.trim();
  if ([days, date, markers].filter((text) => text !== undefined).length !== 1) throw fail("MalformedXML");
  if (days !== undefined) return { expiration: { days: parseDays(days, "Days") } };
  if (date !== undefined) return { expiration: { at: parseDate(date) } };
  if (markers !== "true" && markers !== "false") throw fail("MalformedXML");
  return { expiration: { deleteMarkers: markers === "true" } };
}

function parseNoncurrent(xml: XmlElement | undefined): Pick<LifecycleRule, "noncurrent"> {
  if (xml === undefined) return {};
  const days = xml.textOf("NoncurrentDays");
  const newer = xml.textOf("NewerNoncurrentVersions");
  if (days === undefined) throw fail("MalformedXML");
  const noncurrent = { days: parseDays(days, "NoncurrentDays") };
  if (newer === undefined) return { noncurrent };
  const count = parseCount(newer, 1);
  if (count > maxNewerVersions) throw invalid("'NewerNoncurrentVersions' must be at most 100");
  return { noncurrent: { ...noncurrent, newer: count } };
}

function parseAbort(xml: XmlElement | undefined): Pick<LifecycleRule, "abortDays"> {
  if (xml === undefined) return {};
  const days = xml.textOf("DaysAfterInitiation");
  if (days === undefined) throw fail("MalformedXML");
  return { abortDays: parseDays(days, "DaysAfterInitiation") };
}

function parseDays(text: string, name: string): number {
  const days = Number(text.trim());
  if (!/^\s*-?\d{1,10}\s*$/.test(text)) throw fail("MalformedXML");
  if (days < 1 || days > 0x7fffffff) throw invalid(`'${name}' for the action must be a positive integer`);
  return days;
}

function parseCount(text: string, least: number): number {
  if (!/^\s*\d{1,16}\s*$/.test(text)) throw fail("MalformedXML");
  const count = Number(text);
  if (!Number.isSafeInteger(count) || count < least) throw invalid(`${text.trim()} is out of range`);
  return count;
}

/** ISO 8601, at midnight UTC. */
function parseDate(text: string): number {
  const trimmed = text.trim();
  const at = /^\d{4}-\d{2}-\d{2}(T[\d:.]+(Z|[+-]\d{2}:?\d{2})?)?$/.test(trimmed) ? Date.parse(trimmed) : NaN;
  if (Number.isNaN(at)) throw fail("MalformedXML");
  if (at % dayMs !== 0) throw invalid("'Date' must be at midnight GMT");
  return at;
}

function invalid(why: string) {
  return fail("InvalidArgument", { why });
}

function ruleToXml(rule: LifecycleRule): string {
  const { expiration, noncurrent, abortDays } = rule;
  return nest(
    "Rule",
    tag("ID", rule.id),
    rule.plainPrefix ? tag("Prefix", rule.filter.prefix) : filterToXml(rule.filter),
    tag("Status", rule.enabled ? "Enabled" : "Disabled"),
    expiration === undefined ? "" : nest("Expiration", expirationToXml(expiration)),
    noncurrent === undefined
      ? ""
      : nest(
          "NoncurrentVersionExpiration",
          tag("NoncurrentDays", noncurrent.days),
          tag("NewerNoncurrentVersions", noncurrent.newer),
        ),
    abortDays === undefined
      ? ""
      : nest("AbortIncompleteMultipartUpload", tag("DaysAfterInitiation", abortDays)),
  );
}

function expirationToXml(expiration: NonNullable<LifecycleRule["expiration"]>): string {
  if ("days" in expiration) return tag("Days", expiration.days);
  if ("at" in expiration) return tag("Date", isoTime(expiration.at));
  return tag("ExpiredObjectDeleteMarker", expiration.deleteMarkers);
}

function filterToXml(filter: LifecycleFilter): string {
  const parts = [
    tag("Prefix", filter.prefix),
    tag("ObjectSizeGreaterThan", filter.largerThan),
    tag("ObjectSizeLessThan", filter.smallerThan),
    ...Object.entries(filter.tags ?? {}).map(([key, value]) =>
      nest("Tag", tag("Key", key), tag("Value", value)),
    ),
  ].filter((part) => part !== "");
  return nest("Filter", parts.length > 1 ? nest("And", ...parts) : parts.join(""));
}

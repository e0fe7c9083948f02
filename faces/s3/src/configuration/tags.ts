/**
 * Tags of buckets and objects: as XML, and as the `x-amz-tagging` header.
 * Source: S3 user guide, "Categorizing your objects using tags".
 */
import type { Json } from "@skep/objects";
import { versionHeader } from "../access/acl-operations.ts";
import type { S3Request, S3Response } from "../context.ts";
import { fail } from "../errors.ts";
import { headForAction } from "../operations/existing.ts";
import { document, nest, tag, type XmlElement } from "../xml.ts";

export type Tags = Record<string, string>;

const maxObjectTags = 10;
const maxBucketTags = 50;
const maxKeyLength = 128;
const maxValueLength = 256;
const maxBodyBytes = 64 * 1024;
const allowed = /^[\p{L}\p{Z}\p{N}_.:/=+\-@]*$/u;

/** The tags of the `x-amz-tagging` header (`a=1&b=2`). InvalidTag, InvalidArgument. */
export function tagsFromHeader(request: S3Request): Tags | undefined {
  const header = request.headers["x-amz-tagging"];
  return typeof header === "string" ? parseTagQuery(header) : undefined;
}

/** `a=1&b`, each part percent-encoded. */
export function parseTagQuery(text: string): Tags | undefined {
  const pairs = text.split("&").filter((part) => part !== "");
  const tags = pairs.map((part): [string, string] => {
    const mark = part.indexOf("=");
    return mark < 0 ? [decoded(part), ""] : [decoded(part.slice(0, mark)), decoded(part.slice(mark + 1))];
  });
  return tags.length === 0 ? undefined : checkTags(tags, maxObjectTags);
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text.replaceAll("+", " "));
  } catch (error) {
    const why = "The header 'x-amz-tagging' shall be encoded as UTF-8 then URLEncoded URL query parameters";
    throw fail("InvalidArgument", { why, ArgumentName: "x-amz-tagging" }, { cause: error });
  }
}

/** A Tagging document. */
export function tagsFromXml(xml: XmlElement, most: number): Tags {
  const set = xml.child("TagSet");
  if (set === undefined || set.children.some((child) => child.name !== "Tag")) throw fail("MalformedXML");
  return checkTags(set.all("Tag").map(parseTag), most);
}

export function parseTag(xml: XmlElement): [string, string] {
  const key = xml.textOf("Key");
  const value = xml.textOf("Value");
  if (key === undefined || value === undefined) throw fail("MalformedXML");
  return [key, value];
}

/** Each tag as S3 allows it, no key twice. InvalidTag. */
export function checkTags(tags: readonly [string, string][], most: number): Tags {
  if (tags.length > most) throw fail("InvalidTag", { why: `Tags cannot be more than ${most}` });
  for (const [key, value] of tags) {
    if (key === "" || key.length > maxKeyLength || !allowed.test(key)) {
      throw fail("InvalidTag", { why: "The TagKey you have provided is invalid", TagKey: key });
    }
    if (key.toLowerCase().startsWith("aws:")) {
      throw fail("InvalidTag", { why: "System tags cannot be added/updated by requester", TagKey: key });
    }
    if (value.length > maxValueLength || !allowed.test(value)) {
      throw fail("InvalidTag", { why: "The TagValue you have provided is invalid", TagKey: key });
    }
  }
  if (new Set(tags.map(([key]) => key)).size !== tags.length) {
    throw fail("InvalidTag", { why: "Cannot provide multiple Tags with the same key" });
  }
  return Object.fromEntries(tags);
}

export function tagsToXml(tags: Readonly<Tags>): string {
  const list = Object.entries(tags).map(([key, value]) => nest("Tag", tag("Key", key), tag("Value", value)));
  return document("Tagging", nest("TagSet", ...list));
}

export async function getObjectTagging(request: S3Request): Promise<S3Response> {
  const object = await headForAction(request, "s3:GetObjectTagging");
  return {
    headers: versionHeader(request.bucket, object.versionId),
    body: tagsToXml(object.attributes.tags ?? {}),
  };
}

export async function putObjectTagging(request: S3Request): Promise<S3Response> {
  const object = await headForAction(request, "s3:PutObjectTagging");
  const tags = tagsFromXml(await request.xmlBody("Tagging", maxBodyBytes), maxObjectTags);
  const { bucket, key, store } = request;
  await store.setAttributes(bucket.name, key, object.versionId, { tags });
  return { headers: versionHeader(bucket, object.versionId) };
}

export async function deleteObjectTagging(request: S3Request): Promise<S3Response> {
  const object = await headForAction(request, "s3:DeleteObjectTagging");
  const { bucket, key, store } = request;
  await store.setAttributes(bucket.name, key, object.versionId, { tags: undefined });
  return { status: 204, headers: versionHeader(bucket, object.versionId) };
}

export function getBucketTagging({ bucket }: S3Request): S3Response {
  const { tags } = bucket.settings;
  if (tags === undefined) throw fail("NoSuchTagSet", { BucketName: bucket.name });
  return { body: tagsToXml(tags as Tags) };
}

export async function putBucketTagging(request: S3Request): Promise<S3Response> {
  const tags: Json = tagsFromXml(await request.xmlBody("Tagging", maxBodyBytes), maxBucketTags);
  await request.store.updateBucket(request.bucket.name, { settings: { tags } });
  return { status: 204 };
}

export async function deleteBucketTagging({ bucket, store }: S3Request): Promise<S3Response> {
  await store.updateBucket(bucket.name, { settings: { tags: undefined } });
  return { status: 204 };
}

/**
 * Tags of buckets and objects: as XML, and as the `x-amz-tagging` header.
 * Source: S3 user guide, "Categorizing your objects using tags".
 */
import type { S3Request } from "../context.ts";
import { fail } from "../errors.ts";
import { document, nest, tag, type XmlElement } from "../xml.ts";

export type Tags = Record<string, string>;

const maxObjectTags = 10;
const maxKeyLength = 128;
const maxValueLength = 256;
const allowed = /^[\p{L}\p{Z}\p{N}_.:/=+\-@]*$/u;

/** The tags of the `x-amz-tagging` header (`a=1&b=2`). InvalidTag, InvalidArgument. */
export function tagsFromHeader(request: S3Request): Tags | undefined {
  const header = request.headers["x-amz-tagging"];
  return typeof header === "string" ? parseTagQuery(header) : undefined;
}

/** `a=1&b`, each part percent-encoded. */
function parseTagQuery(text: string): Tags | undefined {
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

/** A Tagging document, of an object or of a bucket. MalformedXML, InvalidTag. */
export function parseTagging(xml: XmlElement, most = maxObjectTags): Tags {
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
  const list = Object.keys(tags)
    .sort()
    .map((key) => nest("Tag", tag("Key", key), tag("Value", tags[key])));
  return document("Tagging", nest("TagSet", ...list));
}

/** The CORS configuration of a bucket. Source: the S3 API reference, "PutBucketCors". */
import type { Bucket, Json } from "@skep/objects";
import type { S3Request, S3Response } from "../context.ts";
import { fail } from "../errors.ts";
import { document, nest, tag, type XmlElement } from "../xml.ts";

const maxBodyBytes = 64 * 1024;
const maxRules = 100;
const methods = ["GET", "PUT", "POST", "DELETE", "HEAD"];

export interface CorsRule {
  readonly id?: string;
  /** With at most one `*`, as are the headers allowed. */
  readonly origins: readonly string[];
  readonly methods: readonly string[];
  readonly headers: readonly string[];
  readonly expose: readonly string[];
  readonly maxAgeSeconds?: number;
}

export function corsRulesOf(bucket: Bucket): readonly CorsRule[] | undefined {
  return bucket.settings.cors as unknown as readonly CorsRule[] | undefined;
}

export async function putBucketCors(request: S3Request): Promise<S3Response> {
  const cors = parseCors(await request.xmlBody("CORSConfiguration", maxBodyBytes));
  await request.store.updateBucket(request.bucket.name, { settings: { cors: cors as unknown as Json } });
  return {};
}

export function getBucketCors({ bucket }: S3Request): S3Response {
  const rules = corsRulesOf(bucket);
  if (rules === undefined) throw fail("NoSuchCORSConfiguration", { BucketName: bucket.name });
  return { body: document("CORSConfiguration", ...rules.map(ruleToXml)) };
}

export async function deleteBucketCors({ bucket, store }: S3Request): Promise<S3Response> {
  await store.updateBucket(bucket.name, { settings: { cors: undefined } });
  return { status: 204 };
}

function parseCors(xml: XmlElement): CorsRule[] {
  const rules = xml.children.map((child) => {
    if (child.name !== "CORSRule") throw fail("MalformedXML");
    return parseRule(child);
  });
  if (rules.length === 0 || rules.length > maxRules) throw fail("MalformedXML");
  return rules;
}

function parseRule(xml: XmlElement): CorsRule {
  const texts = (name: string) => xml.all(name).map((element) => element.text.trim());
  const origins = texts("AllowedOrigin");
  const allowed = texts("AllowedMethod");
  const headers = texts("AllowedHeader");
  const expose = texts("ExposeHeader");
  const age = xml.textOf("MaxAgeSeconds")?.trim();
  const id = xml.textOf("ID");
  if (origins.length === 0 || allowed.length === 0) throw fail("MalformedXML");
  if (age !== undefined && !/^\d{1,9}$/.test(age)) throw fail("MalformedXML");
  if (id !== undefined && id.length > 255)
    throw fail("InvalidArgument", { why: "The rule's ID is too long" });
  for (const method of allowed) {
    if (methods.includes(method)) continue;
    const why = `Found unsupported HTTP method in CORS config. Unsupported method is ${method}`;
    throw fail("InvalidRequest", { why });
  }
  for (const [what, list] of [["AllowedOrigin", origins] as const, ["AllowedHeader", headers] as const]) {
    const wild = list.find((pattern) => pattern.split("*").length > 2);
    if (wild === undefined) continue;
    throw fail("InvalidRequest", { why: `${what} "${wild}" can not have more than one wildcard.` });
  }
  const invalid = expose.find((name) => !/^[\w!#$%&'+.^`|~-]+$/.test(name));
  if (invalid !== undefined) {
    const why = `ExposeHeader "${invalid}" contains a character that is not allowed, such as a wildcard.`;
    throw fail("InvalidRequest", { why });
  }
  return {
    ...(id === undefined ? {} : { id }),
    origins,
    methods: allowed,
    headers,
    expose,
    ...(age === undefined ? {} : { maxAgeSeconds: Number(age) }),
  };
}

function ruleToXml(rule: CorsRule): string {
  return nest(
    "CORSRule",
    tag("ID", rule.id),
    ...rule.methods.map((method) => tag("AllowedMethod", method)),
    ...rule.origins.map((origin) => tag("AllowedOrigin", origin)),
    ...rule.headers.map((name) => tag("AllowedHeader", name)),
    tag("MaxAgeSeconds", rule.maxAgeSeconds),
    ...rule.expose.map((name) => tag("ExposeHeader", name)),
  );
}

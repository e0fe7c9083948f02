import { isDeepStrictEqual } from "node:util";
import { SkepError } from "@skep/base";
import type { Bucket } from "@skep/objects";
import { newBucketSettings } from "../access/new-resources.ts";
import { checkBucketName } from "../bucket-names.ts";
import type { S3Request, S3Response } from "../context.ts";
import { fail } from "../errors.ts";
import { refuseUnsupported } from "../object-headers.ts";
import { ownerNames, ownerXml } from "../owners.ts";
import { document, isoTime, nest, parseXml, tag } from "../xml.ts";
import { integerOf } from "./parameters.ts";

const maxBuckets = 10_000;

/** The requester's buckets; one who did not sign has none. */
export async function listBuckets(request: S3Request): Promise<S3Response> {
  const { query, identity, service } = request;
  const { account } = identity;
  const limit = query.has("max-buckets") ? integerOf(request, "max-buckets", 1, maxBuckets) : maxBuckets;
  const prefix = query.get("prefix") ?? "";
  const token = query.get("continuation-token");
  const region = query.get("bucket-region");
  if (account !== undefined) request.authorize("s3:ListAllMyBuckets", {});
  const none = account === undefined || (region !== undefined && region !== service.region);
  const found: Bucket[] = none
    ? []
    : await request.store.buckets({
        owner: account.id,
        prefix,
        ...(token === undefined ? {} : { after: readToken(token) }),
        limit: limit + 1,
      });
  const page = found.slice(0, limit);
  const last = found.length > limit ? page.at(-1) : undefined;
  return {
    body: document(
      "ListAllMyBucketsResult",
      account === undefined
        ? ownerXml("anonymous", "anonymous")
        : ownerXml(account.id, ownerNames(service)(account.id)),
      nest(
        "Buckets",
        ...page.map((one) => bucketXml(one, query.has("max-buckets") ? service.region : undefined)),
      ),
      last === undefined ? "" : tag("ContinuationToken", Buffer.from(last.name).toString("base64url")),
      query.has("prefix") ? tag("Prefix", prefix) : "",
    ),
  };
}

function bucketXml(bucket: Bucket, region: string | undefined): string {
  return nest(
    "Bucket",
    tag("Name", bucket.name),
    tag("CreationDate", isoTime(bucket.createdAt)),
    tag("BucketRegion", region),
  );
}

function readToken(token: string): string {
  const name = Buffer.from(token, "base64url").toString();
  if (Buffer.from(name).toString("base64url") === token) return name;
  throw fail("InvalidArgument", { why: "The continuation token is not valid" });
}

/** Made again by its owner, a bucket is as it was. */
export async function createBucket(request: S3Request): Promise<S3Response> {
  const { bucketName: name, identity, store } = request;
  checkBucketName(name);
  refuseUnsupported(request.headers);
  if (identity.account === undefined) throw fail("AccessDenied");
  const settings = newBucketSettings(request);
  await checkLocation(request);
  try {
    await store.createBucket(name, { owner: identity.account.id, settings });
  } catch (error) {
    if (!(error instanceof SkepError) || error.code !== "BUCKET_EXISTS") throw error;
    const present = await store.bucket(name);
    const { acl, ownership } = present.settings;
    const same = isDeepStrictEqual({ acl: settings.acl, ownership: settings.ownership }, { acl, ownership });
    if (present.owner !== identity.account.id || !same) {
      throw fail("BucketAlreadyExists", {}, { cause: error });
    }
    // In the oldest region making one's bucket again has always been right.
    if (request.service.region !== "us-east-1") throw fail("BucketAlreadyOwnedByYou", {}, { cause: error });
  }
  return { headers: { location: `/${name}` } };
}

async function checkLocation(request: S3Request): Promise<void> {
  const text = await request.bodyText();
  if (text.trim() === "") return;
  const location = parseXml(text, "CreateBucketConfiguration").textOf("LocationConstraint")?.trim();
  const { region } = request.service;
  if (location === undefined || location === "" || location === region) return;
  throw fail("IllegalLocationConstraintException", { location, region });
}

export function headBucket(request: S3Request): S3Response {
  return { headers: { "x-amz-bucket-region": request.service.region } };
}

export async function deleteBucket(request: S3Request): Promise<S3Response> {
  await request.store.deleteBucket(request.bucketName);
  return { status: 204 };
}

/** us-east-1 is where a bucket is that has no location. */
export function getBucketLocation(request: S3Request): S3Response {
  const { region } = request.service;
  const text = region === "us-east-1" ? "" : region;
  return {
    body: `<?xml version="1.0" encoding="UTF-8"?>\n<LocationConstraint xmlns="http://s3.amazonaws.com/doc/2006-03-01/">${text}</LocationConstraint>`,
  };
}

import type { Json } from "@skep/objects";
import type { S3Request, S3Response } from "../context.ts";
import { fail } from "../errors.ts";
import { versionHeader } from "../object-headers.ts";
import { headForAction } from "../operations/existing.ts";
import { parseTagging, type Tags, tagsToXml } from "./tags.ts";

const maxBucketTags = 50;
const maxBodyBytes = 64 * 1024;

export async function getObjectTagging(request: S3Request): Promise<S3Response> {
  const object = await headForAction(request, "s3:GetObjectTagging");
  return {
    headers: versionHeader(request, object.versionId),
    body: tagsToXml(object.attributes.tags ?? {}),
  };
}

export async function putObjectTagging(request: S3Request): Promise<S3Response> {
  // First the tags: a policy may ask for them.
  const tags = parseTagging(await request.xmlBody("Tagging", maxBodyBytes));
  const object = await headForAction(request, "s3:PutObjectTagging", { requestTags: tags });
  const { bucket, key, store } = request;
  await store.setAttributes(bucket.name, key, object.versionId, { tags });
  return { headers: versionHeader(request, object.versionId) };
}

export async function deleteObjectTagging(request: S3Request): Promise<S3Response> {
  const object = await headForAction(request, "s3:DeleteObjectTagging");
  const { bucket, key, store } = request;
  await store.setAttributes(bucket.name, key, object.versionId, { tags: undefined });
  return { status: 204, headers: versionHeader(request, object.versionId) };
}

export function getBucketTagging({ bucket }: S3Request): S3Response {
  const { tags } = bucket.settings;
  if (tags === undefined) throw fail("NoSuchTagSet", { BucketName: bucket.name });
  return { body: tagsToXml(tags as Tags) };
}

export async function putBucketTagging(request: S3Request): Promise<S3Response> {
  const tags: Json = parseTagging(await request.xmlBody("Tagging", maxBodyBytes), maxBucketTags);
  await request.store.updateBucket(request.bucket.name, { settings: { tags } });
  return { status: 204 };
}

export async function deleteBucketTagging({ bucket, store }: S3Request): Promise<S3Response> {
  await store.updateBucket(bucket.name, { settings: { tags: undefined } });
  return { status: 204 };
}

import { getObjectAcl, putObjectAcl } from "./access/acl-operations.ts";
import { deleteObjectTagging, getObjectTagging, putObjectTagging } from "./configuration/tag-operations.ts";
import { withoutObjectLock } from "./configuration/unconfigured.ts";
import { configurationOperations } from "./configuration-operations.ts";
import type { S3Request } from "./context.ts";
import { preflight } from "./cors.ts";
import type { Operation } from "./operation.ts";
import {
  createBucket,
  deleteBucket,
  getBucketLocation,
  headBucket,
  listBuckets,
} from "./operations/buckets.ts";
import { completeMultipartUpload } from "./operations/complete-upload.ts";
import { copyObject } from "./operations/copy-object.ts";
import { deleteObject, deleteObjects } from "./operations/delete-objects.ts";
import { getObject, getObjectTorrent, headObject } from "./operations/get-object.ts";
import { listObjects, listObjectsV2 } from "./operations/list-objects.ts";
import { listMultipartUploads, listParts } from "./operations/list-parts.ts";
import { listObjectVersions } from "./operations/list-versions.ts";
import {
  abortMultipartUpload,
  createMultipartUpload,
  uploadPart,
  uploadPartCopy,
} from "./operations/multipart.ts";
import { getObjectAttributes } from "./operations/object-attributes.ts";
import { putObject } from "./operations/put-object.ts";
import { postObject } from "./post-form.ts";

/** Reading and changing one version has an action of its own. */
const versioned = (action: string) => (request: S3Request) =>
  request.query.has("versionId") ? action.replace(/Object/, "ObjectVersion") : action;

/**
 * Every operation of S3, as AWS's API names them. One without a handler is known and answers
 * NotImplemented; a request whose sub-resources fit no row never becomes another operation.
 */
export const operations: readonly Operation[] = [
  { name: "ListBuckets", level: "service", method: "GET", handler: listBuckets },

  // buckets
  { name: "CreateBucket", level: "bucket", method: "PUT", action: "s3:CreateBucket", handler: createBucket },
  { name: "HeadBucket", level: "bucket", method: "HEAD", action: "s3:ListBucket", handler: headBucket },
  {
    name: "DeleteBucket",
    level: "bucket",
    method: "DELETE",
    action: "s3:DeleteBucket",
    handler: deleteBucket,
  },
  { name: "PostObject", level: "bucket", method: "POST", handler: postObject },
  { name: "Preflight", level: "bucket", method: "OPTIONS", handler: preflight },
  { name: "ListObjects", level: "bucket", method: "GET", action: "s3:ListBucket", handler: listObjects },
  {
    name: "ListObjectsV2",
    level: "bucket",
    method: "GET",
    select: ["list-type"],
    action: "s3:ListBucket",
    handler: listObjectsV2,
  },
  {
    name: "ListObjectVersions",
    level: "bucket",
    method: "GET",
    select: ["versions"],
    action: "s3:ListBucketVersions",
    handler: listObjectVersions,
  },
  {
    name: "ListMultipartUploads",
    level: "bucket",
    method: "GET",
    select: ["uploads"],
    action: "s3:ListBucketMultipartUploads",
    handler: listMultipartUploads,
  },
  { name: "DeleteObjects", level: "bucket", method: "POST", select: ["delete"], handler: deleteObjects },
  {
    name: "GetBucketLocation",
    level: "bucket",
    method: "GET",
    select: ["location"],
    action: "s3:GetBucketLocation",
    handler: getBucketLocation,
  },

  ...configurationOperations,

  // objects
  {
    name: "PutObject",
    level: "object",
    method: "PUT",
    action: "s3:PutObject",
    handler: putObject,
  },
  {
    name: "CopyObject",
    level: "object",
    method: "PUT",
    header: "x-amz-copy-source",
    action: "s3:PutObject",
    handler: copyObject,
  },
  { name: "GetObject", level: "object", method: "GET", parameters: ["partNumber"], handler: getObject },
  { name: "HeadObject", level: "object", method: "HEAD", parameters: ["partNumber"], handler: headObject },
  {
    name: "GetObjectAttributes",
    level: "object",
    method: "GET",
    select: ["attributes"],
    handler: getObjectAttributes,
  },
  {
    name: "DeleteObject",
    level: "object",
    method: "DELETE",
    action: versioned("s3:DeleteObject"),
    handler: deleteObject,
  },
  { name: "Preflight", level: "object", method: "OPTIONS", handler: preflight },
  { name: "GetObjectAcl", level: "object", method: "GET", select: ["acl"], handler: getObjectAcl },
  { name: "PutObjectAcl", level: "object", method: "PUT", select: ["acl"], handler: putObjectAcl },
  {
    name: "GetObjectTagging",
    level: "object",
    method: "GET",
    select: ["tagging"],
    handler: getObjectTagging,
  },
  {
    name: "PutObjectTagging",
    level: "object",
    method: "PUT",
    select: ["tagging"],
    handler: putObjectTagging,
  },
  {
    name: "DeleteObjectTagging",
    level: "object",
    method: "DELETE",
    select: ["tagging"],
    handler: deleteObjectTagging,
  },
  {
    name: "GetObjectLegalHold",
    level: "object",
    method: "GET",
    select: ["legal-hold"],
    handler: withoutObjectLock("s3:GetObjectLegalHold"),
  },
  {
    name: "PutObjectLegalHold",
    level: "object",
    method: "PUT",
    select: ["legal-hold"],
    handler: withoutObjectLock("s3:PutObjectLegalHold"),
  },
  {
    name: "GetObjectRetention",
    level: "object",
    method: "GET",
    select: ["retention"],
    handler: withoutObjectLock("s3:GetObjectRetention"),
  },
  {
    name: "PutObjectRetention",
    level: "object",
    method: "PUT",
    select: ["retention"],
    handler: withoutObjectLock("s3:PutObjectRetention"),
  },
  {
    name: "GetObjectTorrent",
    level: "object",
    method: "GET",
    select: ["torrent"],
    handler: getObjectTorrent,
  },
  { name: "RestoreObject", level: "object", method: "POST", select: ["restore"] },
  { name: "SelectObjectContent", level: "object", method: "POST", select: ["select", "select-type"] },
  { name: "RenameObject", level: "object", method: "PUT", select: ["renameObject"] },
  { name: "UpdateObjectEncryption", level: "object", method: "PUT", select: ["encryption"] },

  // multipart
  {
    name: "CreateMultipartUpload",
    level: "object",
    method: "POST",
    select: ["uploads"],
    action: "s3:PutObject",
    handler: createMultipartUpload,
  },
  {
    name: "UploadPart",
    level: "object",
    method: "PUT",
    select: ["partNumber", "uploadId"],
    action: "s3:PutObject",
    handler: uploadPart,
  },
  {
    name: "UploadPartCopy",
    level: "object",
    method: "PUT",
    select: ["partNumber", "uploadId"],
    header: "x-amz-copy-source",
    action: "s3:PutObject",
    handler: uploadPartCopy,
  },
  {
    name: "CompleteMultipartUpload",
    level: "object",
    method: "POST",
    select: ["uploadId"],
    action: "s3:PutObject",
    handler: completeMultipartUpload,
  },
  {
    name: "AbortMultipartUpload",
    level: "object",
    method: "DELETE",
    select: ["uploadId"],
    handler: abortMultipartUpload,
  },
  {
    name: "ListParts",
    level: "object",
    method: "GET",
    select: ["uploadId"],
    handler: listParts,
  },
];

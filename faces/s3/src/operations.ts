import { getBucketAcl, getObjectAcl, putBucketAcl, putObjectAcl } from "./access/acl-operations.ts";
import {
  deleteBucketPolicy,
  getBucketPolicy,
  getBucketPolicyStatus,
  putBucketPolicy,
} from "./access/policy-operations.ts";
import {
  deleteOwnershipControls,
  deletePublicAccessBlock,
  getOwnershipControls,
  getPublicAccessBlock,
  putOwnershipControls,
  putPublicAccessBlock,
} from "./access/public-access-operations.ts";
import { deleteBucketCors, getBucketCors, putBucketCors } from "./configuration/cors-rules.ts";
import {
  deleteBucketLifecycle,
  getBucketLifecycle,
  putBucketLifecycle,
} from "./configuration/lifecycle-rules.ts";
import {
  deleteBucketTagging,
  deleteObjectTagging,
  getBucketTagging,
  getObjectTagging,
  putBucketTagging,
  putObjectTagging,
} from "./configuration/tag-operations.ts";
import {
  getRequestPayment,
  putRequestPayment,
  unconfigured,
  withoutObjectLock,
} from "./configuration/unconfigured.ts";
import { getBucketVersioning, putBucketVersioning } from "./configuration/versioning.ts";
import type { Handler, S3Request } from "./context.ts";
import { preflight } from "./cors.ts";
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
import { getObject, headObject } from "./operations/get-object.ts";
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

/**
 * Every operation of S3, as AWS's API names them: how a request selects it, what it needs, who answers.
 * One without a handler is known and answers NotImplemented; a request whose sub-resources fit no row
 * never becomes another operation.
 */
export interface Operation {
  readonly name: string;
  readonly level: "service" | "bucket" | "object";
  readonly method: "GET" | "HEAD" | "PUT" | "POST" | "DELETE" | "OPTIONS";
  /** The sub-resources that the query must have, and no other one. */
  readonly select?: readonly string[];
  /** A sub-resource elsewhere that is a plain parameter here. */
  readonly parameters?: readonly string[];
  /** A header that must be there; without it the row that has none is meant. */
  readonly header?: string;
  /**
   * The IAM action, asked for before the handler runs. Absent where the handler must ask, because the
   * object or its absence decides (`authorizeObject`), or because all may do it.
   */
  readonly action?: string | ((request: S3Request) => string);
  readonly handler?: Handler;
}

/** Reading and changing one version has an action of its own. */
const versioned = (action: string) => (request: S3Request) =>
  request.query.has("versionId") ? action.replace(/Object/, "ObjectVersion") : action;

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

  // what a bucket is set to
  ...configuration(
    "acl",
    "BucketAcl",
    { get: "s3:GetBucketAcl", put: "s3:PutBucketAcl" },
    { get: getBucketAcl, put: putBucketAcl },
  ),
  ...configuration(
    "policy",
    "BucketPolicy",
    {
      get: "s3:GetBucketPolicy",
      put: "s3:PutBucketPolicy",
      delete: "s3:DeleteBucketPolicy",
    },
    { get: getBucketPolicy, put: putBucketPolicy, delete: deleteBucketPolicy },
  ),
  ...configuration(
    "policyStatus",
    "BucketPolicyStatus",
    { get: "s3:GetBucketPolicyStatus" },
    { get: getBucketPolicyStatus },
  ),
  ...configuration(
    "ownershipControls",
    "BucketOwnershipControls",
    {
      get: "s3:GetBucketOwnershipControls",
      put: "s3:PutBucketOwnershipControls",
      delete: "s3:PutBucketOwnershipControls",
    },
    { get: getOwnershipControls, put: putOwnershipControls, delete: deleteOwnershipControls },
  ),
  ...configuration(
    "publicAccessBlock",
    "PublicAccessBlock",
    {
      get: "s3:GetBucketPublicAccessBlock",
      put: "s3:PutBucketPublicAccessBlock",
      delete: "s3:PutBucketPublicAccessBlock",
    },
    { get: getPublicAccessBlock, put: putPublicAccessBlock, delete: deletePublicAccessBlock },
  ),
  ...configuration(
    "tagging",
    "BucketTagging",
    {
      get: "s3:GetBucketTagging",
      put: "s3:PutBucketTagging",
      delete: "s3:PutBucketTagging",
    },
    { get: getBucketTagging, put: putBucketTagging, delete: deleteBucketTagging },
  ),
  ...configuration(
    "versioning",
    "BucketVersioning",
    {
      get: "s3:GetBucketVersioning",
      put: "s3:PutBucketVersioning",
    },
    { get: getBucketVersioning, put: putBucketVersioning },
  ),
  ...configuration(
    "cors",
    "BucketCors",
    {
      get: "s3:GetBucketCORS",
      put: "s3:PutBucketCORS",
      delete: "s3:PutBucketCORS",
    },
    { get: getBucketCors, put: putBucketCors, delete: deleteBucketCors },
  ),
  ...configuration(
    "lifecycle",
    "BucketLifecycle",
    {
      get: "s3:GetLifecycleConfiguration",
      put: "s3:PutLifecycleConfiguration",
      delete: "s3:PutLifecycleConfiguration",
    },
    { get: getBucketLifecycle, put: putBucketLifecycle, delete: deleteBucketLifecycle },
  ),
  ...configuration(
    "encryption",
    "BucketEncryption",
    {
      get: "s3:GetEncryptionConfiguration",
      put: "s3:PutEncryptionConfiguration",
      delete: "s3:PutEncryptionConfiguration",
    },
    unconfigured.encryption,
  ),
  ...configuration(
    "object-lock",
    "ObjectLockConfiguration",
    {
      get: "s3:GetBucketObjectLockConfiguration",
      put: "s3:PutBucketObjectLockConfiguration",
    },
    unconfigured.objectLock,
  ),
  ...configuration(
    "requestPayment",
    "BucketRequestPayment",
    {
      get: "s3:GetBucketRequestPayment",
      put: "s3:PutBucketRequestPayment",
    },
    { get: getRequestPayment, put: putRequestPayment },
  ),
  ...configuration(
    "logging",
    "BucketLogging",
    { get: "s3:GetBucketLogging", put: "s3:PutBucketLogging" },
    unconfigured.logging,
  ),
  ...configuration(
    "accelerate",
    "BucketAccelerateConfiguration",
    {
      get: "s3:GetAccelerateConfiguration",
      put: "s3:PutAccelerateConfiguration",
    },
    unconfigured.accelerate,
  ),
  ...configuration("abac", "BucketAbac", { get: "s3:GetBucketAbac", put: "s3:PutBucketAbac" }),
  ...configuration(
    "notification",
    "BucketNotificationConfiguration",
    {
      get: "s3:GetBucketNotification",
      put: "s3:PutBucketNotification",
    },
    unconfigured.notification,
  ),
  ...configuration(
    "replication",
    "BucketReplication",
    {
      get: "s3:GetReplicationConfiguration",
      put: "s3:PutReplicationConfiguration",
      delete: "s3:PutReplicationConfiguration",
    },
    unconfigured.replication,
  ),
  ...configuration(
    "website",
    "BucketWebsite",
    {
      get: "s3:GetBucketWebsite",
      put: "s3:PutBucketWebsite",
      delete: "s3:DeleteBucketWebsite",
    },
    unconfigured.website,
  ),
  ...configuration(
    "analytics",
    "BucketAnalyticsConfiguration",
    {
      get: "s3:GetAnalyticsConfiguration",
      put: "s3:PutAnalyticsConfiguration",
      delete: "s3:PutAnalyticsConfiguration",
    },
    unconfigured.analytics,
  ),
  ...configuration(
    "inventory",
    "BucketInventoryConfiguration",
    {
      get: "s3:GetInventoryConfiguration",
      put: "s3:PutInventoryConfiguration",
      delete: "s3:PutInventoryConfiguration",
    },
    unconfigured.inventory,
  ),
  ...configuration(
    "metrics",
    "BucketMetricsConfiguration",
    {
      get: "s3:GetMetricsConfiguration",
      put: "s3:PutMetricsConfiguration",
      delete: "s3:PutMetricsConfiguration",
    },
    unconfigured.metrics,
  ),
  ...configuration(
    "intelligent-tiering",
    "BucketIntelligentTieringConfiguration",
    {
      get: "s3:GetIntelligentTieringConfiguration",
      put: "s3:PutIntelligentTieringConfiguration",
      delete: "s3:PutIntelligentTieringConfiguration",
    },
    unconfigured.tiering,
  ),
  ...configuration("metadataTable", "BucketMetadataTableConfiguration", {
    get: "s3:GetBucketMetadataTableConfiguration",
    delete: "s3:DeleteBucketMetadataTableConfiguration",
  }),
  { name: "CreateSession", level: "bucket", method: "GET", select: ["session"], action: "s3:CreateSession" },

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
  { name: "GetObjectTorrent", level: "object", method: "GET", select: ["torrent"] },
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
    action: "s3:AbortMultipartUpload",
    handler: abortMultipartUpload,
  },
  {
    name: "ListParts",
    level: "object",
    method: "GET",
    select: ["uploadId"],
    action: "s3:ListMultipartUploadParts",
    handler: listParts,
  },
];

/** The rows of one of a bucket's configurations: those of GET, PUT and DELETE that S3 has. */
function configuration(
  name: string,
  noun: string,
  actions: { get?: string; put?: string; delete?: string },
  handlers: { get?: Handler; put?: Handler; delete?: Handler } = {},
): Operation[] {
  const row = (verb: string, method: Operation["method"], action?: string, handler?: Handler): Operation[] =>
    action === undefined
      ? []
      : [
          {
            name: `${verb}${noun}`,
            level: "bucket",
            method,
            select: [name],
            action,
            ...(handler === undefined ? {} : { handler }),
          },
        ];
  return [
    ...row("Get", "GET", actions.get, handlers.get),
    ...row("Put", "PUT", actions.put, handlers.put),
    ...row("Delete", "DELETE", actions.delete, handlers.delete),
  ];
}

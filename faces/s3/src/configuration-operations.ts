import { getBucketAcl, putBucketAcl } from "./access/acl-operations.ts";
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
import { deleteBucketTagging, getBucketTagging, putBucketTagging } from "./configuration/tag-operations.ts";
import { getRequestPayment, putRequestPayment, unconfigured } from "./configuration/unconfigured.ts";
import { getBucketVersioning, putBucketVersioning } from "./configuration/versioning.ts";
import type { Handler } from "./context.ts";
import type { Operation } from "./operation.ts";

/** What a bucket is set to, a sub-resource each. */
export const configurationOperations: readonly Operation[] = [
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

/**
 * The actions of S3 that a bucket policy may name, so that a misspelled one is refused and not silently
 * without effect. Source: Service authorization reference, "Actions, resources, and condition keys for Amazon S3".
 */
import { matches, parsePattern } from "./pattern.ts";

const names = `
AbortMultipartUpload BypassGovernanceRetention CreateBucket CreateBucketMetadataTableConfiguration
DeleteBucket DeleteBucketMetadataTableConfiguration DeleteBucketOwnershipControls DeleteBucketPolicy
DeleteBucketPublicAccessBlock DeleteBucketWebsite DeleteObject DeleteObjectTagging DeleteObjectVersion
DeleteObjectVersionTagging GetAccelerateConfiguration GetAnalyticsConfiguration GetBucketAbac GetBucketAcl
GetBucketCORS GetBucketLocation GetBucketLogging GetBucketMetadataTableConfiguration GetBucketNotification
GetBucketObjectLockConfiguration GetBucketOwnershipControls GetBucketPolicy GetBucketPolicyStatus
GetBucketPublicAccessBlock GetBucketRequestPayment GetBucketTagging GetBucketVersioning GetBucketWebsite
GetEncryptionConfiguration GetIntelligentTieringConfiguration GetInventoryConfiguration
GetLifecycleConfiguration GetMetricsConfiguration GetObject GetObjectAcl GetObjectAttributes
GetObjectLegalHold GetObjectRetention GetObjectTagging GetObjectTorrent GetObjectVersion GetObjectVersionAcl
GetObjectVersionAttributes GetObjectVersionForReplication GetObjectVersionTagging GetObjectVersionTorrent
GetReplicationConfiguration InitiateReplication ListAllMyBuckets ListBucket ListBucketMultipartUploads
ListBucketVersions ListMultipartUploadParts ObjectOwnerOverrideToBucketOwner PauseReplication
PostBucketLogging PutAccelerateConfiguration PutAnalyticsConfiguration PutBucketAbac PutBucketAcl
PutBucketCORS PutBucketLogging PutBucketNotification PutBucketObjectLockConfiguration
PutBucketOwnershipControls PutBucketPolicy PutBucketPublicAccessBlock PutBucketRequestPayment
PutBucketTagging PutBucketVersioning PutBucketWebsite PutEncryptionConfiguration
PutIntelligentTieringConfiguration PutInventoryConfiguration PutLifecycleConfiguration
PutMetricsConfiguration PutObject PutObjectAcl PutObjectLegalHold PutObjectRetention PutObjectTagging
PutObjectVersionAcl PutObjectVersionTagging PutReplicationConfiguration ReplicateDelete ReplicateObject
ReplicateTags RestoreObject UpdateObjectEncryption
`;
const actions: readonly string[] = names
  .trim()
  .split(/\s+/)
  .map((name) => `s3:${name.toLowerCase()}`);

/** Whether a pattern, in lower case, fits any action. */
export function isKnownAction(pattern: string): boolean {
  const compiled = parsePattern(pattern);
  if (compiled.variables) return false;
  return actions.some((action) => matches(compiled, action));
}

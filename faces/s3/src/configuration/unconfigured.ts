/**
 * Configurations of S3 that do not exist here. Reading one says, in S3's words, that nothing is set, and
 * removing one removes nothing; setting one is refused as not implemented (by having no handler).
 */
import type { Handler, S3Request, S3Response } from "../context.ts";
import { fail, type S3Code } from "../errors.ts";
import { headForAction } from "../operations/existing.ts";
import { document, tag } from "../xml.ts";

const absent =
  (code: S3Code): Handler =>
  ({ bucket }) => {
    throw fail(code, { BucketName: bucket.name });
  };

const empty =
  (root: string): Handler =>
  () => ({ body: document(root) });

/** With an id, that one configuration; without, the list of all. */
const listed =
  (root: string): Handler =>
  ({ query }) => {
    if (query.has("id")) throw fail("NoSuchConfiguration");
    return { body: document(root, tag("IsTruncated", false)) };
  };

const nothing: Handler = () => ({ status: 204 });

export const unconfigured = {
  encryption: { get: absent("ServerSideEncryptionConfigurationNotFoundError"), delete: nothing },
  replication: { get: absent("ReplicationConfigurationNotFoundError"), delete: nothing },
  website: { get: absent("NoSuchWebsiteConfiguration"), delete: nothing },
  logging: { get: empty("BucketLoggingStatus") },
  notification: { get: empty("NotificationConfiguration") },
  accelerate: { get: empty("AccelerateConfiguration") },
  analytics: { get: listed("ListBucketAnalyticsConfigurationsResult") },
  inventory: { get: listed("ListInventoryConfigurationsResult") },
  metrics: { get: listed("ListMetricsConfigurationsResult") },
  tiering: { get: listed("ListBucketIntelligentTieringConfigurationsOutput") },
  /** S3 gives a lock only to buckets made with one, and none are here. */
  objectLock: {
    get: absent("ObjectLockConfigurationNotFoundError"),
    put: absent("InvalidBucketState"),
  },
} as const;

/** Retention and legal hold of objects, in buckets without object lock. */
export const withoutObjectLock =
  (action: string): Handler =>
  async (request) => {
    await headForAction(request, action);
    throw fail("InvalidRequest", { why: "Bucket is missing Object Lock Configuration" });
  };

/** The bucket's owner pays, for nobody else can be charged here. */
export const getRequestPayment: Handler = () => ({
  body: document("RequestPaymentConfiguration", tag("Payer", "BucketOwner")),
});

export async function putRequestPayment(request: S3Request): Promise<S3Response> {
  const xml = await request.xmlBody("RequestPaymentConfiguration", 64 * 1024);
  const payer = xml.textOf("Payer")?.trim();
  if (payer === "Requester") throw fail("NotImplemented", { what: "Requester pays" });
  if (payer !== "BucketOwner") throw fail("MalformedXML");
  return {};
}

import type { S3Request, S3Response } from "../context.ts";
import { fail } from "../errors.ts";
import { document, tag } from "../xml.ts";

const maxBodyBytes = 64 * 1024;

export function getBucketVersioning({ bucket }: S3Request): S3Response {
  const status = { off: undefined, enabled: "Enabled", suspended: "Suspended" }[bucket.versioning];
  return { body: document("VersioningConfiguration", tag("Status", status)) };
}

export async function putBucketVersioning(request: S3Request): Promise<S3Response> {
  const xml = await request.xmlBody("VersioningConfiguration", maxBodyBytes);
  const status = xml.textOf("Status")?.trim();
  const mfaDelete = (xml.textOf("MfaDelete") ?? xml.textOf("MFADelete"))?.trim();
  if (mfaDelete === "Enabled") throw fail("NotImplemented", { what: "MFA delete" });
  if (mfaDelete !== undefined && mfaDelete !== "Disabled") throw fail("MalformedXML");
  if (status === undefined) throw fail("IllegalVersioningConfigurationException");
  if (status !== "Enabled" && status !== "Suspended") throw fail("MalformedXML");
  const versioning = status === "Enabled" ? "enabled" : "suspended";
  await request.store.updateBucket(request.bucket.name, { versioning });
  return {};
}

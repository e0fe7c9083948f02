import { createHmac } from "node:crypto";
import { readScope } from "./claim.ts";
import { fail } from "./errors.ts";
import { algorithm, type SigningKeys, sameSignature, signingKey, signText } from "./keys.ts";
import { parseTimestamp } from "./time.ts";
import type { VerifiedBy, VerifyOptions } from "./verify.ts";

/**
 * The signature of a browser's upload form: it covers the policy as it stands in the field, base64.
 * Field names in lower case. What the policy says, its expiration too, is the caller's to check.
 * Undefined where the form is not signed. Forms signed by version 2 (HMAC-SHA1 of the policy) are
 * still made by many and accepted by S3.
 */
export function verifyPost<C extends { secret: string }>(
  fields: Readonly<Record<string, string | undefined>>,
  options: Pick<VerifyOptions<C>, "lookup" | "region"> & { keys?: SigningKeys },
): VerifiedBy<C> | undefined {
  const field = (name: string): string => {
    const value = fields[name];
    if (value === undefined || value === "") {
      throw fail("FORM_MALFORMED", { why: `Bucket POST must contain a field named "${name}"` });
    }
    return value;
  };
  const credentialOf = (accessKeyId: string): C => {
    const credential = options.lookup(accessKeyId);
    if (credential === undefined) throw fail("ACCESS_KEY_UNKNOWN", { accessKeyId });
    return credential;
  };
  const verified = (expected: string, given: string) => {
    if (!sameSignature(expected, given)) throw fail("SIGNATURE_MISMATCH", { what: "the form" });
    return { form: "post", payload: { kind: "unsigned" } } as const;
  };
  const { policy, awsaccesskeyid } = fields;
  const isV4 = ["x-amz-algorithm", "x-amz-credential", "x-amz-signature"].some((name) => name in fields);
  if (policy === undefined && awsaccesskeyid === undefined && !isV4) return undefined;
  if (!isV4) {
    const accessKeyId = field("awsaccesskeyid");
    const signature = field("signature");
    const credential = credentialOf(accessKeyId);
    const expected = createHmac("sha1", credential.secret).update(field("policy")).digest("base64");
    return {
      version: 2,
      accessKeyId,
      region: options.region ?? "",
      service: "s3",
      credential,
      ...verified(expected, signature),
    };
  }
  const malformed = (why: string) => fail("FORM_MALFORMED", { why });
  if (field("x-amz-algorithm") !== algorithm) throw malformed(`x-amz-algorithm must be ${algorithm}`);
  if (fields["x-amz-security-token"] !== undefined) throw fail("TOKEN_INVALID");
  const scope = readScope(field("x-amz-credential"), malformed);
  const timestamp = field("x-amz-date");
  if (parseTimestamp(timestamp) === undefined || !timestamp.startsWith(scope.date)) {
    throw malformed("x-amz-date must be a time as 20130524T000000Z, of the credential's date");
  }
  if (scope.service !== "s3") throw malformed(`the service "${scope.service}" is wrong; expecting "s3"`);
  if (options.region !== undefined && options.region !== scope.region) {
    throw malformed(`the region "${scope.region}" is wrong; expecting "${options.region}"`);
  }
  const signature = field("x-amz-signature");
  const credential = credentialOf(scope.accessKeyId);
  const key = options.keys?.get(credential.secret, scope) ?? signingKey(credential.secret, scope);
  const { accessKeyId, region, service } = scope;
  return {
    version: 4,
    accessKeyId,
    region,
    service,
    credential,
    ...verified(signText(key, field("policy")), signature),
  };
}

import type { Resource, S3Request } from "../context.ts";
import { fail } from "../errors.ts";

/** Actions that a key with only read scope may use. */
const reading = /^s3:(Get|List|Head)/;

/**
 * Decides whether the identity of a request may do `action` (its IAM name, `s3:GetObject`) with a
 * resource. Throws AccessDenied. Asked for each operation before its handler runs and before a body is
 * taken; for what concerns an object's own ACL, by the handler once the object is known.
 */
export function authorize(request: S3Request, action: string, resource: Resource): void {
  const { account, scopes } = request.identity;
  if (account === undefined) throw fail("AccessDenied");
  if (scopes.length > 0) {
    const name = resource.bucket?.name ?? request.bucketName;
    const scope = scopes.find((one) => one.bucket === name);
    if (scope === undefined || (scope.access === "read" && !reading.test(action))) throw fail("AccessDenied");
  }
  if (resource.bucket !== undefined && resource.bucket.owner !== account.id) throw fail("AccessDenied");
}

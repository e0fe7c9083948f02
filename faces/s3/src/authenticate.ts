import type { IncomingHttpHeaders, IncomingMessage } from "node:http";
import type { Credential } from "@skep/accounts";
import { anonymousPayload, type Payload, type SigningKeys, verifyRequest } from "@skep/sigv4";
import type { Identity, Query, Service } from "./context.ts";
import { S3Error, toS3Error } from "./errors.ts";

export const anonymous: Identity = { scopes: [] };

/** Who signed a request and what its signature says of the body. Throws what `verifyRequest` does. */
export function authenticate(
  req: IncomingMessage,
  service: Service,
  keys: SigningKeys,
  hostBucket: string | undefined,
): { identity: Identity; payload: Payload } {
  const shape = { method: req.method ?? "", target: req.url ?? "", headers: req.headers };
  let verified: ReturnType<typeof verifyRequest<Credential>>;
  try {
    verified = verifyRequest(shape, {
      lookup: (accessKeyId) => service.accounts.credential(accessKeyId),
      now: service.clock.now(),
      region: service.region,
      keys,
      version2: hostBucket === undefined ? {} : { hostBucket },
    });
  } catch (error) {
    throw withRegion(error, req.headers.authorization, service.region);
  }
  if (verified === undefined) return { identity: anonymous, payload: anonymousPayload(shape) };
  const { accessKeyId, form, version, credential } = verified;
  const { account, scopes } = credential;
  return { identity: { account, accessKeyId, scopes, form, version }, payload: verified.payload };
}

const ofSignature =
  /^x-amz-(algorithm|credential|date|expires|signedheaders|signature|security-token|content-sha256)$/;

/**
 * The headers that a presigned request has in its query, where SDKs put them so that the link needs no
 * headers: `x-amz-acl=public-read`. A header that is sent counts for more; both are signed.
 */
export function presignedHeaders(
  query: Query,
  sent: IncomingHttpHeaders,
): Record<string, string> | undefined {
  const isV2 = query.has("Signature");
  if (!isV2 && !query.has("X-Amz-Signature")) return undefined;
  const headers: Record<string, string> = {};
  for (const [given, value] of query) {
    const name = given.toLowerCase();
    const isHeader =
      (name.startsWith("x-amz-") && !ofSignature.test(name)) ||
      (isV2 && (name === "content-type" || name === "content-md5"));
    // As text of a header is shown: its bytes as latin1.
    if (isHeader && sent[name] === undefined) headers[name] ??= Buffer.from(value).toString("latin1");
  }
  return headers;
}

/** Who signed for another region is told ours: s3cmd and the SDKs then sign again for it. */
function withRegion(error: unknown, authorization: string | undefined, region: string): unknown {
  const signedFor = /Credential=[^/]+\/\d+\/([^/]+)\//.exec(authorization ?? "")?.[1];
  if (signedFor === undefined || signedFor === region) return error;
  const failure = toS3Error(error);
  if (failure.code !== "AuthorizationHeaderMalformed") return error;
  const { status } = failure;
  return new S3Error(
    "AuthorizationHeaderMalformed",
    failure.message,
    { Region: region },
    { cause: error, status },
  );
}

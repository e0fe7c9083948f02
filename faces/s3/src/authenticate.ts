import type { IncomingMessage } from "node:http";
import type { Credential } from "@skep/accounts";
import { anonymousPayload, type Payload, type SigningKeys, verifyRequest } from "@skep/sigv4";
import type { Identity, Service } from "./context.ts";
import { S3Error, toS3Error } from "./errors.ts";

export const anonymous: Identity = { scopes: [] };

/** Who signed a request and what its signature says of the body. Throws what `verifyRequest` does. */
export function authenticate(
  req: IncomingMessage,
  service: Service,
  keys: SigningKeys,
): { identity: Identity; payload: Payload } {
  const shape = { method: req.method ?? "", target: req.url ?? "", headers: req.headers };
  let verified: ReturnType<typeof verifyRequest<Credential>>;
  try {
    verified = verifyRequest(shape, {
      lookup: (accessKeyId) => service.accounts.credential(accessKeyId),
      now: service.clock.now(),
      region: service.region,
      keys,
    });
  } catch (error) {
    throw withRegion(error, req.headers.authorization, service.region);
  }
  if (verified === undefined) return { identity: anonymous, payload: anonymousPayload(shape) };
  const { accessKeyId, form, credential } = verified;
  const { account, scopes } = credential;
  return { identity: { account, accessKeyId, scopes, form }, payload: verified.payload };
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

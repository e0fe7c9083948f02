import type { IncomingMessage } from "node:http";
import { anonymousPayload, type Payload, type SigningKeys, verifyRequest } from "@skep/sigv4";
import type { Identity, Service } from "./context.ts";

export const anonymous: Identity = { scopes: [] };

/** Who signed a request and what its signature says of the body. Throws what `verifyRequest` does. */
export function authenticate(
  req: IncomingMessage,
  service: Service,
  keys: SigningKeys,
): { identity: Identity; payload: Payload } {
  const shape = { method: req.method ?? "", target: req.url ?? "", headers: req.headers };
  const verified = verifyRequest(shape, {
    lookup: (accessKeyId) => service.accounts.credential(accessKeyId),
    now: service.clock.now(),
    region: service.region,
    keys,
  });
  if (verified === undefined) return { identity: anonymous, payload: anonymousPayload(shape) };
  const { accessKeyId, form, credential } = verified;
  const { account, scopes } = credential;
  return { identity: { account, accessKeyId, scopes, form }, payload: verified.payload };
}

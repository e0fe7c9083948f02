import { canonicalDigest, headerValue } from "./canonical.ts";
import { type Claim, readClaim } from "./claim.ts";
import { fail } from "./errors.ts";
import type { HmacKey } from "./hmac.ts";
import { chunkSigner, type SigningKeys, sameSignature, signDigest, signingKey } from "./keys.ts";
import { readPayload, unsignedPayload } from "./payload.ts";
import type { Payload, RequestShape, Scope, Verified } from "./types.ts";
import { type ClaimV2, type Version2, verifySignatureV2 } from "./v2.ts";

export interface VerifyOptions<C extends { secret: string }> {
  lookup(accessKeyId: string): C | undefined;
  /** Milliseconds since 1970. */
  now: number;
  /** How far the client's clock may be off; 15 minutes without. */
  maxSkewMs?: number;
  /** The only region allowed; any without. */
  region?: string;
  /** Services allowed in the credential's scope; only `s3` without. */
  services?: readonly string[];
  /** Keeps signing keys from one request to the next. */
  keys?: SigningKeys;
  /** Of services that send no x-amz-content-sha256: the SHA-256 (hex) of the body, which is there already. */
  bodySha256?: string;
  /** Takes requests signed by version 2 too; they name neither region nor service. VERSION_UNSUPPORTED without. */
  version2?: Version2;
}

export type VerifiedBy<C> = Verified & { credential: C };

const defaultSkewMs = 15 * 60 * 1000;

/**
 * Whose a request says it is and for which service, with nothing verified: tells where it belongs.
 * Undefined where it says nothing of it, as with version 2.
 */
export function scopeOf(request: RequestShape): Scope | undefined {
  const claim = readClaim(request);
  return claim?.version === 4 ? claim.scope : undefined;
}

/** Undefined where the request is not signed; throws where its signature is not right (errors.ts). */
export function verifyRequest<C extends { secret: string }>(
  request: RequestShape,
  options: VerifyOptions<C>,
): VerifiedBy<C> | undefined {
  const claim = readClaim(request);
  if (claim === undefined) return undefined;
  if (claim.version === 2) return verifyV2(request, claim, options);
  const { scope, form } = claim;
  checkScope(claim, options);
  checkHeaders(request, claim);
  const { text, payload } = bodyOf(request, claim, options.bodySha256);
  const credential = credentialOf(scope.accessKeyId, options);
  checkTime(claim, options.now, options.maxSkewMs ?? defaultSkewMs);
  const key = options.keys?.get(credential.secret, scope) ?? signingKey(credential.secret, scope);
  const signature = signatureOf(request, claim, key, text);
  if (payload.kind === "chunked" && payload.signed) {
    payload.signer = chunkSigner(key, claim.timestamp, scope, signature);
  }
  const { accessKeyId, region, service } = scope;
  return { version: 4, accessKeyId, form, region, service, payload, credential };
}

function verifyV2<C extends { secret: string }>(
  request: RequestShape,
  claim: ClaimV2,
  options: VerifyOptions<C>,
): VerifiedBy<C> {
  if (options.version2 === undefined) throw fail("VERSION_UNSUPPORTED");
  const payload = anonymousPayload(request);
  const { accessKeyId, form } = claim;
  const credential = credentialOf(accessKeyId, options);
  if (claim.form === "header") checkSkew(claim.signedAt, options.now, options.maxSkewMs ?? defaultSkewMs);
  else checkExpiry(claim.expiresAt, options.now);
  verifySignatureV2(request, claim, credential.secret, options.version2);
  return { version: 2, accessKeyId, form, region: options.region ?? "", service: "s3", payload, credential };
}

function credentialOf<C extends { secret: string }>(accessKeyId: string, options: VerifyOptions<C>): C {
  const credential = options.lookup(accessKeyId);
  if (credential === undefined) throw fail("ACCESS_KEY_UNKNOWN", { accessKeyId });
  return credential;
}

/** The signature, which is the one that came with the request. */
function signatureOf(request: RequestShape, claim: Claim, key: HmacKey, payload: string): string {
  const { query, path, signedHeaders } = claim;
  const canonical = { request, signedHeaders, payload, query, path };
  const signed = (encoding: "latin1" | "utf8") =>
    signDigest(key, claim.timestamp, claim.scope, canonicalDigest(canonical, encoding));
  const signature = signed("latin1");
  if (sameSignature(signature, claim.signature)) return signature;
  // Some clients sign a header's text as UTF-8 and send it as latin1.
  if (signedHeaders.some((name) => /[\x80-\xff]/.test(headerValue(request.headers[name])))) {
    const other = signed("utf8");
    if (sameSignature(other, claim.signature)) return other;
  }
  throw fail("SIGNATURE_MISMATCH", { what: "the request" });
}

function checkScope(
  { scope, form }: Claim,
  options: Pick<VerifyOptions<never>, "region" | "services">,
): void {
  const malformed = (why: string) =>
    fail(form === "header" ? "HEADER_MALFORMED" : "QUERY_MALFORMED", { why });
  const services = options.services ?? ["s3"];
  if (!services.includes(scope.service)) {
    throw malformed(`the service "${scope.service}" is wrong; expecting "${services.join('" or "')}"`);
  }
  if (options.region !== undefined && options.region !== scope.region) {
    throw malformed(`the region "${scope.region}" is wrong; expecting "${options.region}"`);
  }
}

/** What an intermediary could add must not change what the request does: every x-amz-* is signed. */
function checkHeaders(request: RequestShape, claim: Claim): void {
  for (const name in request.headers) {
    if (!name.startsWith("x-amz-") || request.headers[name] === undefined) continue;
    if (!claim.signedHeaders.includes(name)) {
      throw fail("ACCESS_DENIED", { why: `the header ${name.slice(0, 80)} is not signed` });
    }
  }
}

/** The canonical request's last line, and what it says of the body. */
function bodyOf(
  request: RequestShape,
  claim: Claim,
  bodySha256: string | undefined,
): { text: string; payload: Payload } {
  const header = request.headers["x-amz-content-sha256"];
  const inQuery = claim.query.find(([name]) => name === "X-Amz-Content-Sha256")?.[1];
  if (header !== undefined || (claim.form === "presigned" && inQuery !== undefined)) {
    const text = header === undefined ? (inQuery as string) : headerValue(header);
    return { text, payload: readPayload(text) };
  }
  if (claim.form === "presigned") return { text: unsignedPayload, payload: { kind: "unsigned" } };
  if (bodySha256 !== undefined) return { text: bodySha256, payload: { kind: "digest", sha256: bodySha256 } };
  throw fail("REQUEST_INVALID", { why: "Missing required header for this request: x-amz-content-sha256" });
}

function checkTime(claim: Claim, now: number, maxSkewMs: number): void {
  if (claim.expiresSeconds === undefined) {
    checkSkew(claim.signedAt, now, maxSkewMs);
    return;
  }
  if (claim.signedAt - now > maxSkewMs) {
    throw fail("ACCESS_DENIED", { why: `Request is not valid yet: it was signed at ${iso(claim.signedAt)}` });
  }
  checkExpiry(claim.signedAt + claim.expiresSeconds * 1000, now);
}

function checkSkew(signedAt: number, now: number, maxSkewMs: number): void {
  if (Math.abs(now - signedAt) <= maxSkewMs) return;
  throw fail("TIME_SKEWED", { signedAt: iso(signedAt), now: iso(now) });
}

function checkExpiry(expiredAt: number, now: number): void {
  if (now > expiredAt) throw fail("SIGNATURE_EXPIRED", { expiredAt: iso(expiredAt), now: iso(now) });
}

const iso = (time: number) => new Date(time).toISOString();

/** Where the signature says nothing of the body, or there is none: SDKs frame bodies and send digests all the same. */
export function anonymousPayload(request: RequestShape): Payload {
  const header = request.headers["x-amz-content-sha256"];
  if (header === undefined) return { kind: "unsigned" };
  const payload = readPayload(headerValue(header));
  if (payload.kind === "chunked" && payload.signed) {
    throw fail("ACCESS_DENIED", { why: "the body's chunks are signed by version 4 and the request is not" });
  }
  return payload;
}

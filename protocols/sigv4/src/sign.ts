import { canonicalDigest, encodeUri, queryPairs, splitTarget } from "./canonical.ts";
import type { HmacKey } from "./hmac.ts";
import { algorithm, chunkSigner, type SigningKeys, scopeText, signDigest, signingKey } from "./keys.ts";
import { readPayload, unsignedPayload } from "./payload.ts";
import { formatTimestamp } from "./time.ts";
import type { ChunkSigner, Credentials, RequestShape, Scope } from "./types.ts";

export interface SignOptions {
  region: string;
  /** `s3` without. */
  service?: string;
  /** Milliseconds since 1970. */
  now: number;
  keys?: SigningKeys;
}

export interface SignRequestOptions extends SignOptions {
  /** As x-amz-content-sha256 will say it: a SHA-256 in hex, or one of its words; UNSIGNED-PAYLOAD without. */
  payload?: string;
}

/** Hop-by-hop headers, and those that intermediaries rewrite: none of them is signed. */
const unsignable = new Set(["authorization", "connection", "expect", "transfer-encoding", "user-agent"]);

function signable(headers: RequestShape["headers"]): string[] {
  return Object.keys(headers)
    .filter((name) => headers[name] !== undefined && !unsignable.has(name))
    .sort();
}

/**
 * The headers to add to a request, whose `host` must be there; `signer` for a body in signed chunks.
 * All headers are signed but those that change on the way.
 */
export function signRequest(
  request: RequestShape,
  credentials: Credentials,
  options: SignRequestOptions,
): { headers: Record<string, string>; signer?: ChunkSigner } {
  const payload = options.payload ?? unsignedPayload;
  const timestamp = formatTimestamp(options.now);
  const added: Record<string, string> = { "x-amz-content-sha256": payload, "x-amz-date": timestamp };
  const full = { ...request, headers: { ...request.headers, ...added } };
  const signedHeaders = signable(full.headers);
  const { path, query } = splitTarget(request.target);
  const canonical = { request: full, signedHeaders, payload, query: queryPairs(query), path };
  const { scope, key } = keyFor(credentials, timestamp, options);
  const signature = signDigest(key, timestamp, scope, canonicalDigest(canonical, "latin1"));
  added.authorization = `${algorithm} Credential=${scope.accessKeyId}/${scopeText(scope)},SignedHeaders=${signedHeaders.join(";")},Signature=${signature}`;
  const body = readPayload(payload);
  return body.kind === "chunked" && body.signed
    ? { headers: added, signer: chunkSigner(key, timestamp, scope, signature) }
    : { headers: added };
}

/** The target with its signature in the query; whoever has it may send the request until it expires. */
export function presign(
  request: RequestShape,
  credentials: Credentials,
  options: SignRequestOptions & { expiresSeconds: number },
): string {
  const payload = options.payload ?? unsignedPayload;
  const timestamp = formatTimestamp(options.now);
  const { scope, key } = keyFor(credentials, timestamp, options);
  const signedHeaders = signable(request.headers);
  const { path, query } = splitTarget(request.target);
  const pairs: [string, string][] = [
    ...queryPairs(query),
    ["X-Amz-Algorithm", algorithm],
    ["X-Amz-Credential", encodeUri(`${scope.accessKeyId}/${scopeText(scope)}`)],
    ["X-Amz-Date", timestamp],
    ["X-Amz-Expires", String(options.expiresSeconds)],
    ["X-Amz-SignedHeaders", encodeUri(signedHeaders.join(";"))],
  ];
  const canonical = { request, signedHeaders, payload, query: pairs, path };
  const signature = signDigest(key, timestamp, scope, canonicalDigest(canonical, "latin1"));
  const written = pairs.map(([name, value]) => `${name}=${value}`).join("&");
  return `${path}?${written}&X-Amz-Signature=${signature}`;
}

function keyFor(
  { accessKeyId, secret }: Credentials,
  timestamp: string,
  { region, service = "s3", keys }: SignOptions,
): { scope: Scope; key: HmacKey } {
  const scope = { accessKeyId, date: timestamp.slice(0, 8), region, service };
  return { scope, key: keys?.get(secret, scope) ?? signingKey(secret, scope) };
}

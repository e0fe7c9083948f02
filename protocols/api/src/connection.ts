import { fail } from "./errors.ts";

/**
 * Where skepd is: its Unix socket, or a TLS address with a token. `revive` starts the server again,
 * where it dies while a job is followed.
 */
export type Connection = { socket: string; revive?: () => Promise<unknown> } | { url: string; token: string };

/** `skep1.<id>.<secret>.<fingerprint>`; the fingerprint is base64url(SHA-256(CA certificate, DER)). */
export interface TokenParts {
  id: string;
  secret: string;
  fingerprint: string;
}

export function parseToken(text: string): TokenParts {
  const match = /^skep1\.([a-z0-9]{1,32})\.([\w-]{43})\.([\w-]{43})$/.exec(text.trim());
  if (match === null) throw fail("TOKEN_INVALID");
  const [, id, secret, fingerprint] = match as unknown as [string, string, string, string];
  return { id, secret, fingerprint };
}

export function formatToken(parts: TokenParts): string {
  return `skep1.${parts.id}.${parts.secret}.${parts.fingerprint}`;
}

/** What goes into the Authorization header: the fingerprint is the client's own business. */
export function bearer(parts: TokenParts): string {
  return `Bearer skep1.${parts.id}.${parts.secret}`;
}

/** Host and port of `https://HOST[:PORT]`; the port defaults to skepd's 8440. */
export function parseAddress(url: string): { host: string; port: number; where: string } {
  let parsed: URL;
  try {
    parsed = new URL(url.includes("://") ? url : `https://${url}`);
  } catch (error) {
    throw fail("ADDRESS_INVALID", { url, why: "it is no URL" }, { cause: error });
  }
  if (parsed.protocol !== "https:") throw fail("ADDRESS_INVALID", { url, why: "only https is spoken" });
  if (parsed.pathname !== "/" || parsed.search !== "" || parsed.username !== "") {
    throw fail("ADDRESS_INVALID", { url, why: "it holds more than a host and a port" });
  }
  const host = parsed.hostname.replace(/^\[|\]$/g, "");
  // URL drops 443, as https's own port; it is kept when it was written out.
  const port = parsed.port !== "" ? Number(parsed.port) : /:443\/?$/.test(url) ? 443 : 8440;
  return { host, port, where: `${parsed.hostname}:${port}` };
}

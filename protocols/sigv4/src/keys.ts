import { hash, timingSafeEqual } from "node:crypto";
import { HmacKey } from "./hmac.ts";
import type { ChunkSigner, Scope } from "./types.ts";

export const algorithm = "AWS4-HMAC-SHA256";
export const emptySha256 = hash("sha256", "", "hex");

export function signingKey(secret: string, scope: Pick<Scope, "date" | "region" | "service">): HmacKey {
  let key = new HmacKey(`AWS4${secret}`);
  for (const text of [scope.date, scope.region, scope.service, "aws4_request"]) {
    key = new HmacKey(key.sign(text, "buffer"));
  }
  return key;
}

/** Keeps the signing keys of late: they change once a day, and making one costs four HMACs. */
export class SigningKeys {
  readonly #keys = new Map<string, { secret: string; key: HmacKey }>();
  readonly #limit: number;

  constructor(limit = 256) {
    this.#limit = limit;
  }

  get(secret: string, scope: Scope): HmacKey {
    const name = `${scope.accessKeyId}/${scope.date}/${scope.region}/${scope.service}`;
    const kept = this.#keys.get(name);
    if (kept !== undefined && kept.secret === secret) return kept.key;
    const key = signingKey(secret, scope);
    if (this.#keys.size >= this.#limit) {
      const [oldest] = this.#keys.keys();
      this.#keys.delete(oldest as string);
    }
    this.#keys.set(name, { secret, key });
    return key;
  }
}

export function scopeText(scope: Pick<Scope, "date" | "region" | "service">): string {
  return `${scope.date}/${scope.region}/${scope.service}/aws4_request`;
}

export function signText(key: HmacKey, text: string): string {
  return key.sign(text, "hex");
}

export function signDigest(key: HmacKey, timestamp: string, scope: Scope, digest: string): string {
  return signText(key, `${algorithm}\n${timestamp}\n${scopeText(scope)}\n${digest}`);
}

/** Compares in a time that does not tell where two signatures differ. */
export function sameSignature(expected: string, given: string): boolean {
  const a = Buffer.from(expected);
  const b = Buffer.from(given);
  return a.length === b.length && timingSafeEqual(a, b);
}

/** Each signature covers the one before it, the first one the request's own (`seed`). */
export function chunkSigner(key: HmacKey, timestamp: string, scope: Scope, seed: string): ChunkSigner {
  let previous = seed;
  const bound = `${timestamp}\n${scopeText(scope)}`;
  return {
    next(sha256) {
      previous = signText(key, `${algorithm}-PAYLOAD\n${bound}\n${previous}\n${emptySha256}\n${sha256}`);
      return previous;
    },
    trailer(sha256) {
      previous = signText(key, `${algorithm}-TRAILER\n${bound}\n${previous}\n${sha256}`);
      return previous;
    },
  };
}

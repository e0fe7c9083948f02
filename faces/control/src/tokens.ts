import { createHash, randomBytes, timingSafeEqual } from "node:crypto";
import type { DatabaseSync } from "node:sqlite";
import type { Token } from "@skep/api/schemas";
import { fail } from "./errors.ts";

interface Row {
  id: string;
  name: string;
  hash: Uint8Array;
  created_at: string;
  expires_at: string | null;
  last_used_at: string | null;
}

const failureWindowMs = 60_000;
const allowedFailures = 20;
const watchedAddresses = 1024;
const lastUsedStepMs = 60_000;

/**
 * Bearer tokens. A secret has 256 random bits, so its plain SHA-256 is kept: there is nothing to
 * guess that a slow hash would protect.
 */
export class Tokens {
  readonly #database: DatabaseSync;
  readonly #now: () => number;
  readonly #failures = new Map<string, { count: number; since: number }>();

  constructor(database: DatabaseSync, now: () => number = Date.now) {
    this.#database = database;
    this.#now = now;
  }

  create(name: string, expiresInSeconds?: number): { token: Token; secret: string } {
    const id = randomBytes(6).toString("hex");
    const secret = randomBytes(32).toString("base64url");
    const created = this.#now();
    const expires =
      expiresInSeconds === undefined
        ? null
        : new Date(Math.min(created + expiresInSeconds * 1000, 8.64e15)).toISOString();
    this.#database
      .prepare("INSERT INTO tokens (id, name, hash, created_at, expires_at) VALUES (?, ?, ?, ?, ?)")
      .run(id, name, hashOf(secret), new Date(created).toISOString(), expires);
    return { token: tokenOf(this.#row(id) as Row), secret };
  }

  list(): Token[] {
    const rows = this.#database.prepare("SELECT * FROM tokens ORDER BY created_at, id").all();
    return (rows as unknown as Row[]).map(tokenOf);
  }

  remove(id: string): void {
    const { changes } = this.#database.prepare("DELETE FROM tokens WHERE id = ?").run(id);
    if (changes === 0) throw fail("TOKEN_NOT_FOUND", { id: id.slice(0, 64) });
  }

  /**
   * Accepts `Bearer skep1.<id>.<secret>` or throws. An unknown id costs the same comparison as a
   * known one. Repeated failures of one address are refused for the rest of a minute.
   */
  check(header: string | undefined, address: string): void {
    const now = this.#now();
    const failures = this.#failures.get(address);
    const recent = failures !== undefined && now - failures.since < failureWindowMs ? failures : undefined;
    if (recent !== undefined && recent.count >= allowedFailures) throw fail("TOO_MANY_FAILURES", { address });
    if (header === undefined) throw fail("TOKEN_MISSING");
    const match = /^Bearer skep1\.([a-z0-9]{1,32})\.([\w-]{43})(?:\.[\w-]{43})?$/i.exec(header);
    const row = match === null ? undefined : this.#row(match[1] as string);
    const same = timingSafeEqual(hashOf(match?.[2] ?? ""), row?.hash ?? Buffer.alloc(32));
    const alive = row !== undefined && (row.expires_at === null || Date.parse(row.expires_at) > now);
    if (!same || !alive) {
      this.#failed(address, recent, now);
      throw fail("TOKEN_REFUSED");
    }
    this.#failures.delete(address);
    // At most one write a minute: a busy client shall not make the disk busy.
    if (row.last_used_at === null || now - Date.parse(row.last_used_at) >= lastUsedStepMs) {
      this.#noteUse(row.id, now);
    }
  }

  #noteUse(id: string, now: number): void {
    try {
      this.#database
        .prepare("UPDATE tokens SET last_used_at = ? WHERE id = ?")
        .run(new Date(now).toISOString(), id);
    } catch {
      // A full disk must not keep the owner from freeing it.
    }
  }

  #failed(address: string, recent: { count: number; since: number } | undefined, now: number): void {
    if (recent !== undefined) {
      recent.count += 1;
      return;
    }
    if (this.#failures.size >= watchedAddresses) {
      const oldest = this.#failures.keys().next().value;
      if (oldest !== undefined) this.#failures.delete(oldest);
    }
    this.#failures.delete(address);
    this.#failures.set(address, { count: 1, since: now });
  }

  #row(id: string): Row | undefined {
    return this.#database.prepare("SELECT * FROM tokens WHERE id = ?").get(id) as Row | undefined;
  }
}

function hashOf(secret: string): Buffer {
  return createHash("sha256").update(secret).digest();
}

function tokenOf(row: Row): Token {
  return {
    id: row.id,
    name: row.name,
    createdAt: row.created_at,
    expiresAt: row.expires_at,
    lastUsedAt: row.last_used_at,
  };
}

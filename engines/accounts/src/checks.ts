import { fail } from "./errors.ts";
import type { Scope } from "./types.ts";

const textLimit = 64;

/** Text that people see: no control characters, no invisible direction marks, nothing at either end. */
function textFault(text: string): string | undefined {
  if (text === "") return "it is empty";
  if (text.length > textLimit) return `it has ${text.length} characters, ${textLimit} are allowed`;
  if (/[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/u.test(text)) return "it has invisible characters";
  if (text !== text.trim()) return "it begins or ends with a space";
  return undefined;
}

/** A name must not be taken for an id, number or email: it is one of the ways to refer to an account. */
export function checkAccountName(given: string): string {
  const name = given.normalize("NFC");
  const why =
    textFault(name) ??
    (/^[0-9a-f]{64}$|^\d{12}$/.test(name)
      ? "it could be taken for an id"
      : name.includes("@")
        ? "it could be taken for an email address"
        : undefined);
  if (why !== undefined) throw fail("ACCOUNT_INVALID", { what: "name", why });
  return name;
}

export function checkEmail(email: string): string {
  if (email === "") return email;
  const good =
    email.length <= 254 && /^[\w.!#$%&'*+/=?^`{|}~-]+@[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?$/.test(email);
  if (!good) throw fail("ACCOUNT_INVALID", { what: "email", why: "it is not an email address" });
  return email;
}

export function checkAccountId(id: string): string {
  if (!/^[0-9a-f]{64}$/.test(id)) {
    throw fail("ACCOUNT_INVALID", { what: "id", why: "it is not 64 hexadecimal digits in lower case" });
  }
  return id;
}

/** What may stand in a signature's credential, between its slashes. */
export function checkAccessKeyId(id: string): string {
  if (!isAccessKeyId(id)) {
    throw fail("KEY_INVALID", {
      what: "id",
      why: "it must be 3 to 128 letters, digits, dots, dashes or underscores",
    });
  }
  return id;
}

export function isAccessKeyId(id: string): boolean {
  return id.length <= 128 && /^[\w.-]{3,}$/.test(id);
}

export function checkSecret(secret: string): string {
  if (!/^[\x21-\x7e]{8,256}$/.test(secret)) {
    throw fail("KEY_INVALID", { what: "secret", why: "it must be 8 to 256 printable ASCII characters" });
  }
  return secret;
}

export function checkKeyName(given: string): string {
  const name = given.normalize("NFC");
  const why = name === "" ? undefined : textFault(name);
  if (why !== undefined) throw fail("KEY_INVALID", { what: "name", why });
  return name;
}

/** Each bucket once, with the wider of what was asked for it. */
export function checkScopes(scopes: readonly Scope[]): Scope[] {
  const widest = new Map<string, Scope["access"]>();
  for (const { bucket, access } of scopes) {
    if (!/^[A-Za-z0-9][A-Za-z0-9._-]{2,62}$/.test(bucket)) {
      throw fail("KEY_INVALID", { what: "scope", why: `"${bucket.slice(0, 80)}" is not a bucket's name` });
    }
    if (access !== "read" && access !== "write") {
      throw fail("KEY_INVALID", { what: "scope", why: "a bucket is for read or for write" });
    }
    if (widest.get(bucket) !== "write") widest.set(bucket, access);
  }
  if (widest.size > 100) throw fail("KEY_INVALID", { what: "scope", why: "it names more than 100 buckets" });
  return [...widest].map(([bucket, access]) => ({ bucket, access }));
}

import { createCipheriv, createDecipheriv, createHmac, randomBytes } from "node:crypto";
import { closeSync, fsyncSync, linkSync, openSync, readFileSync, rmSync, writeSync } from "node:fs";
import { dirname } from "node:path";
import { isErrno } from "@skep/base";
import { fail } from "./errors.ts";

const keyBytes = 32;
const nonceBytes = 12;
const tagBytes = 16;

/**
 * Seals secrets with AES-256-GCM: nonce (12 bytes), ciphertext, tag (16 bytes). `name` is bound to the
 * secret, so that a sealed one moved to another row does not open.
 */
export class Seal {
  readonly #key: Buffer;

  constructor(key: Buffer) {
    this.#key = key;
  }

  close(secret: string, name: string): Buffer {
    const nonce = randomBytes(nonceBytes);
    const cipher = createCipheriv("aes-256-gcm", this.#key, nonce).setAAD(Buffer.from(name));
    return Buffer.concat([nonce, cipher.update(secret, "utf8"), cipher.final(), cipher.getAuthTag()]);
  }

  /** A secret that whoever has the key can make again. */
  derive(name: string): string {
    return createHmac("sha256", this.#key).update(`derived ${name}`).digest("hex");
  }

  /** Undefined where it was sealed with another key or for another name, or is damaged. */
  open(sealed: Uint8Array, name: string): string | undefined {
    if (sealed.length < nonceBytes + tagBytes) return undefined;
    try {
      const decipher = createDecipheriv("aes-256-gcm", this.#key, sealed.subarray(0, nonceBytes), {
        authTagLength: tagBytes,
      })
        .setAAD(Buffer.from(name))
        .setAuthTag(sealed.subarray(-tagBytes));
      return (
        decipher.update(sealed.subarray(nonceBytes, -tagBytes), undefined, "utf8") + decipher.final("utf8")
      );
    } catch {
      return undefined;
    }
  }
}

/** The key in `path`, 64 hexadecimal digits; undefined where there is no such file. */
export function readSeal(path: string): Seal | undefined {
  let text: string;
  try {
    text = readFileSync(path, "latin1").trim();
  } catch (error) {
    if (isErrno(error, "ENOENT")) return undefined;
    throw error;
  }
  if (!/^[0-9a-f]{64}$/.test(text))
    throw fail("SEAL_DAMAGED", { path, why: "it is not 64 hexadecimal digits" });
  return new Seal(Buffer.from(text, "hex"));
}

/** As `readSeal`; the file is made where there is none. Of two processes that make it, both get the first's. */
export function makeSeal(path: string): Seal {
  const there = readSeal(path);
  if (there !== undefined) return there;
  const temporary = `${path}.${randomBytes(6).toString("hex")}.tmp`;
  try {
    const file = openSync(temporary, "wx", 0o600);
    try {
      writeSync(file, `${randomBytes(keyBytes).toString("hex")}\n`);
      fsyncSync(file);
    } finally {
      closeSync(file);
    }
    // Unlike a rename, a link never replaces what another process has put there meanwhile.
    linkSync(temporary, path);
  } catch (error) {
    if (!isErrno(error, "EEXIST")) throw error;
  } finally {
    rmSync(temporary, { force: true });
  }
  const directory = openSync(dirname(path), "r");
  try {
    fsyncSync(directory);
  } finally {
    closeSync(directory);
  }
  return readSeal(path) ?? makeSeal(path);
}

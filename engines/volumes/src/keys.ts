import { createCipheriv, createDecipheriv, createSecretKey, hkdfSync, type KeyObject } from "node:crypto";
import { type ChunkName, chunkObjectKey } from "./chunk/names.ts";

export const keyBytes = 32;
export const tagBytes = 16;

/**
 * A volume's key, from which each thing that is encrypted gets a key of its own: no chunk's or map object's name
 * and no segment's salt is ever used twice, so counting nonces from 0 in each of them never repeats one.
 */
export class VolumeKey {
  readonly bytes: Uint8Array;

  constructor(bytes: Uint8Array) {
    if (bytes.length !== keyBytes) throw new RangeError(`a volume's key has ${keyBytes} bytes`);
    this.bytes = bytes;
  }

  static random(random: (bytes: number) => Uint8Array): VolumeKey {
    return new VolumeKey(random(keyBytes));
  }

  chunkKey(name: ChunkName): KeyObject {
    return this.#derive(`chunk ${chunkObjectKey(name)}`);
  }

  mapKey(objectKey: string): KeyObject {
    return this.#derive(`map ${objectKey}`);
  }

  segmentKey(salt: bigint, number: number): KeyObject {
    return this.#derive(`segment ${salt.toString(16)} ${number}`);
  }

  /** An object: a cipher made from the key's bytes takes three times as long as a block. */
  #derive(purpose: string): KeyObject {
    const bytes = hkdfSync("sha256", this.bytes, "skep volume", purpose, keyBytes);
    return createSecretKey(new Uint8Array(bytes));
  }
}

/** AES-256-GCM: the ciphertext, then its tag of 16 bytes. The same nonce never goes with the same key again. */
export function sealBytes(
  key: KeyObject,
  nonce: number,
  bytes: Uint8Array,
  authenticated?: Uint8Array,
): Buffer {
  const cipher = createCipheriv("aes-256-gcm", key, nonceOf(nonce));
  if (authenticated !== undefined) cipher.setAAD(authenticated);
  return Buffer.concat([cipher.update(bytes), cipher.final(), cipher.getAuthTag()]);
}

/** Undefined where they were sealed with another key or nonce, or changed since. */
export function openBytes(
  key: KeyObject,
  nonce: number,
  sealed: Uint8Array,
  authenticated?: Uint8Array,
): Buffer | undefined {
  if (sealed.length < tagBytes) return undefined;
  const decipher = createDecipheriv("aes-256-gcm", key, nonceOf(nonce), { authTagLength: tagBytes });
  decipher.setAuthTag(sealed.subarray(-tagBytes));
  if (authenticated !== undefined) decipher.setAAD(authenticated);
  const bytes = decipher.update(sealed.subarray(0, -tagBytes));
  try {
    decipher.final();
  } catch {
    return undefined;
  }
  return bytes;
}

function nonceOf(number: number): Buffer {
  const nonce = Buffer.alloc(12);
  nonce.writeUIntLE(number, 0, 6);
  return nonce;
}

import { join } from "node:path";
import { makeSeal } from "@skep/accounts";
import type { KeyWrap } from "@skep/volumes";

/** Secrets as text, sealed with the installation's key (`accounts.key`), each for one name. */
export interface Seals {
  close(secret: string, name: string): string;
  /** Undefined where it was sealed elsewhere or for another name. */
  open(sealed: string, name: string): string | undefined;
}

export function storeSeals(home: string): Seals {
  const seal = makeSeal(join(home, "accounts.key"));
  return {
    close: (secret, name) => seal.close(secret, `store ${name}`).toString("base64"),
    open: (sealed, name) => seal.open(Buffer.from(sealed, "base64"), `store ${name}`),
  };
}

/** Volumes' own keys, wrapped with it. */
export function volumeKeys(home: string): KeyWrap {
  const seal = makeSeal(join(home, "accounts.key"));
  return {
    wrap: (key, name) => seal.close(Buffer.from(key).toString("base64"), `volume ${name}`).toString("base64"),
    unwrap(wrapped, name) {
      const key = seal.open(Buffer.from(wrapped, "base64"), `volume ${name}`);
      return key === undefined ? undefined : Buffer.from(key, "base64");
    },
  };
}

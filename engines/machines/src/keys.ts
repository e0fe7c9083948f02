import { mkdtemp, readFile, rename, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import { ensureDirectory, exists, run } from "@skep/base";
import { fail } from "./errors.ts";

export interface KeyPair {
  /** Path of the private key (OpenSSH format, 0600). */
  path: string;
  publicKey: string;
}

/** The installation's own ed25519 key pair, made at first use. */
export async function ownKeyPair(path: string): Promise<KeyPair> {
  if (!(await exists(path))) {
    await ensureDirectory(dirname(path));
    const temporary = await mkdtemp(join(dirname(path), ".new-"));
    try {
      const fresh = join(temporary, "key");
      await run("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-C", "skep", "-f", fresh], {
        install: "apt-get install openssh-client",
      });
      await rename(`${fresh}.pub`, `${path}.pub`);
      await rename(fresh, path); // last, since its presence says that both are there
    } finally {
      await rm(temporary, { recursive: true, force: true });
    }
  }
  return { path, publicKey: (await readFile(`${path}.pub`, "utf8")).trim() };
}

// sshd(8), AUTHORIZED_KEYS: type, base64 blob, comment; options before the type are not taken.
const format =
  /^(ssh-[a-z0-9-]+(?:@openssh\.com)?|ecdsa-sha2-[a-z0-9-]+|sk-[a-z0-9-]+@openssh\.com) ([A-Za-z0-9+/]+={0,2})(?: [^\r\n]*)?$/;

/** One public key line, checked to be what it says: the blob begins with its own type. */
export function checkPublicKey(line: string): string {
  const key = line.trim();
  const match = format.exec(key);
  if (match !== null) {
    const blob = Buffer.from(match[2] as string, "base64");
    const length = blob.length >= 4 ? blob.readUInt32BE(0) : -1;
    if (blob.subarray(4, 4 + length).toString("latin1") === match[1]) return key;
  }
  throw fail("KEY_INVALID", { key: `"${key.slice(0, 40)}${key.length > 40 ? "…" : ""}"` });
}

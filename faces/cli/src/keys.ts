import { readdir } from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";
import { fail } from "./errors.ts";
import { readInput } from "./input.ts";

const publicKey =
  /^(?:ssh-(?:ed25519|rsa|dss)|ecdsa-sha2-nistp\d+|sk-[a-z0-9-]+@openssh\.com) [A-Za-z0-9+/]{32,}={0,3}(?: .*)?$/;

function keysIn(text: string, what: string): string[] {
  const lines = text
    .split(/\r?\n/)
    .map((line) => line.trim())
    .filter((line) => line !== "" && !line.startsWith("#"));
  if (lines.length === 0 || !lines.every((line) => publicKey.test(line))) throw fail("KEY_INVALID", { what });
  return lines;
}

/** The keys behind one `--ssh-key`: a literal public key, or a file of them. Private keys are refused. */
export async function readPublicKeys(value: string): Promise<string[]> {
  if (/^(?:ssh-|ecdsa-|sk-)\S+ /.test(value)) return keysIn(value, "the given text");
  if (value.includes("PRIVATE KEY")) throw fail("KEY_PRIVATE", { path: "the given text" });
  const text = await readInput(value, 262_144);
  if (/-----BEGIN [A-Z ]*PRIVATE KEY-----/.test(text)) throw fail("KEY_PRIVATE", { path: value });
  return keysIn(text, value);
}

/** The public keys in `~/.ssh`; what is no key there is passed over. */
export async function userPublicKeys(home = homedir()): Promise<string[]> {
  const directory = join(home, ".ssh");
  const names = await readdir(directory).catch(() => []);
  const found: string[] = [];
  for (const name of names.sort()) {
    if (!name.endsWith(".pub") || name.endsWith("-cert.pub")) continue;
    try {
      found.push(...(await readPublicKeys(join(directory, name))));
    } catch {
      // an unreadable or odd file in the user's own directory is no reason to refuse a machine
    }
  }
  return [...new Set(found)];
}

import { appendFile } from "node:fs/promises";
import { readFileIfThere } from "@skep/base";

/** What known_hosts says of a key: nothing yet, this very key, another one, or never again. */
export type HostKeyVerdict = "unknown" | "known" | "changed" | "revoked";

interface KnownKey {
  marker: string | undefined;
  type: string;
  blob: string;
}

/** sshd(8), SSH_KNOWN_HOSTS FILE FORMAT, reduced to plain names: `web.skep ssh-ed25519 AAAA…`. */
function keysOf(text: string, alias: string): KnownKey[] {
  return text.split("\n").flatMap((line) => {
    const fields = line.trim().split(/\s+/);
    const marker = fields[0]?.startsWith("@") ? fields.shift() : undefined;
    const [hosts, type, blob] = fields;
    if (hosts === undefined || hosts.startsWith("#") || type === undefined || blob === undefined) return [];
    return hosts.split(",").includes(alias) ? [{ marker, type, blob }] : [];
  });
}

/** The type inside a key in wire format (RFC 4253, section 6.6). */
function keyType(key: Buffer): string {
  const length = key.length >= 4 ? key.readUInt32BE(0) : 0;
  return key.subarray(4, 4 + length).toString("latin1");
}

export async function judgeHostKey(path: string, alias: string, key: Buffer): Promise<HostKeyVerdict> {
  const known = keysOf((await readFileIfThere(path)) ?? "", alias);
  const blob = key.toString("base64");
  if (known.some((one) => one.marker === "@revoked" && one.blob === blob)) return "revoked";
  const trusted = known.filter((one) => one.marker === undefined);
  if (trusted.length === 0) return "unknown";
  return trusted.some((one) => one.blob === blob) ? "known" : "changed";
}

/** The types of the keys that are known, so that the server is asked for one that can be compared. */
export async function knownKeyTypes(path: string, alias: string): Promise<string[]> {
  const known = keysOf((await readFileIfThere(path)) ?? "", alias);
  return [...new Set(known.filter((one) => one.marker === undefined).map((one) => one.type))];
}

export async function recordHostKey(path: string, alias: string, key: Buffer): Promise<void> {
  if ((await judgeHostKey(path, alias, key)) !== "unknown") return;
  await appendFile(path, `${alias} ${keyType(key)} ${key.toString("base64")}\n`, { mode: 0o600 });
}

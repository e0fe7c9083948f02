import { readFile, stat } from "node:fs/promises";
import { parseDocument } from "yaml";
import { readIsoFiles } from "./iso-codec.ts";
import type { Machine } from "./machine.ts";
import { noUserData } from "./seed.ts";

/** What of a seed is to be done in a system that has booted already; or why only a boot does it. */
export type LaterSeed = { publicKeys: string[]; firstBoot: boolean; bytes: number } | { why: string };

/** Not larger than a seed can be that was made from a request. */
const largestSeed = 32 * 1024 ** 2;

/**
 * Keys of a cloud-config whose modules do the same in a system that is up: they add files, users, packages and names,
 * or run late in the boot anyway. All others want the boot itself, or would have kept something from happening.
 */
const laterKeys = new Set([
  ...["hostname", "fqdn", "prefer_fqdn_over_hostname", "manage_etc_hosts"],
  ...["users", "groups", "ssh_authorized_keys", "ssh_import_id", "ssh_pwauth", "chpasswd", "password"],
  ...["write_files", "packages", "package_update", "package_upgrade", "apt", "ca_certs", "runcmd"],
  ...["timezone", "locale", "ntp", "final_message"],
]);

/** Of a machine that was never started; a machine without a seed wants nothing. */
export async function laterSeed({ file, paths }: Machine): Promise<LaterSeed> {
  if (!file.seeded) return { publicKeys: [], firstBoot: false, bytes: 0 };
  const { size } = await stat(paths.seed);
  if (size > largestSeed) return { why: `its seed has ${size} bytes` };
  try {
    return laterOf(readIsoFiles(await readFile(paths.seed)), size);
  } catch (error) {
    return { why: `its seed cannot be read: ${(error as Error).message}` };
  }
}

/** @internal For its tests. */
export function laterOf(files: ReadonlyMap<string, Buffer>, bytes: number): LaterSeed {
  const text = (name: string) => files.get(name)?.toString("utf8") ?? "";
  if (files.has("network-config")) return { why: "it has a network-config" };
  const userData = text("user-data");
  const why = bootedBy(userData);
  if (why !== undefined) return { why };
  const meta = JSON.parse(text("meta-data") || "{}") as { "public-keys"?: unknown };
  const keys = Array.isArray(meta["public-keys"]) ? meta["public-keys"] : [];
  const publicKeys = keys.filter((key) => typeof key === "string");
  const environment = text("vendor-data").includes('filename="environment.sh"');
  return { publicKeys, firstBoot: userData !== noUserData || environment, bytes };
}

/** Why user-data wants a boot; undefined: it does not. */
function bootedBy(userData: string): string | undefined {
  if (userData === noUserData || userData.startsWith("#!")) return undefined;
  if (!/^#cloud-config(?![\w-])/.test(userData))
    return "its user-data is neither a script nor a cloud-config";
  const config: unknown = parseDocument(userData).toJS({ maxAliasCount: 100 });
  const keys = Object.keys((config ?? {}) as object);
  const other = keys.find((key) => !laterKeys.has(key));
  if (other !== undefined) return `its user-data has ${other.slice(0, 80)}, which wants a boot`;
  const { users } = (config ?? {}) as { users?: unknown };
  // Without it there would be no such user, and there is one already.
  const isKept = users === undefined || (Array.isArray(users) && users.includes("default"));
  return isKept ? undefined : "its user-data has users without the default one";
}

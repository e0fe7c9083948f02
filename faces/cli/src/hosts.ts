import { homedir } from "node:os";
import { dirname, isAbsolute, join } from "node:path";
import { parseAddress } from "@skep/api";
import { ensureDirectory, readFileIfThere, writeFileAtomic } from "@skep/base";
import { usage } from "./errors.ts";

interface HostsFile {
  version: 1;
  hosts: Record<string, { token: string }>;
}

/** `$XDG_CONFIG_HOME/skep/hosts.json`: the tokens of remote skepds, 0600. */
function hostsPath(environment: NodeJS.ProcessEnv = process.env): string {
  const config = environment.XDG_CONFIG_HOME;
  const base = config !== undefined && isAbsolute(config) ? config : join(homedir(), ".config");
  return join(base, "skep", "hosts.json");
}

/** One spelling for one address: `https://HOST:PORT`. */
export function normalHost(url: string): string {
  return `https://${parseAddress(url).where}`;
}

async function readHosts(path: string): Promise<HostsFile> {
  const text = await readFileIfThere(path);
  if (text === undefined) return { version: 1, hosts: {} };
  try {
    const value = JSON.parse(text) as HostsFile;
    if (value.version === 1 && typeof value.hosts === "object" && value.hosts !== null) return value;
  } catch {
    // reported below, as any other content that is not ours
  }
  throw usage(`${path} is damaged`, "remove it, and log in again: skep login URL --token TOKEN");
}

export async function tokenFor(url: string, environment: NodeJS.ProcessEnv = process.env): Promise<string> {
  if (environment.SKEP_TOKEN) return environment.SKEP_TOKEN;
  const normal = normalHost(url);
  const { hosts } = await readHosts(hostsPath(environment));
  const entry = Object.hasOwn(hosts, normal) ? hosts[normal] : undefined;
  if (typeof entry?.token === "string") return entry.token;
  throw usage(
    `there is no token for ${normal}`,
    `log in: skep login ${normal} --token TOKEN, or set SKEP_TOKEN`,
  );
}

export async function rememberHost(
  url: string,
  token: string,
  environment: NodeJS.ProcessEnv = process.env,
): Promise<string> {
  const path = hostsPath(environment);
  await ensureDirectory(dirname(path));
  const file = await readHosts(path);
  file.hosts[normalHost(url)] = { token };
  await writeFileAtomic(path, `${JSON.stringify(file, null, 2)}\n`, 0o600);
  return path;
}

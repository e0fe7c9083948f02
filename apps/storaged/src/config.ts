import { isIP } from "node:net";
import { exists, readVersionedJson, writeVersionedJson } from "@skep/base";
import { parseListen } from "@skep/daemon";
import { fail } from "./errors.ts";

/** `$SKEP_HOME/storage.json`: what holds for every start of storaged. */
export interface StorageConfig {
  version: 1;
  /** Whether the S3 endpoint listens on TCP. */
  up: boolean;
  /** Where it does so: `HOST:PORT`. */
  listen: string;
  /** Plain HTTP instead of TLS. */
  http: boolean;
  /** Under which `BUCKET.domain` names a bucket. */
  domain: string | null;
  region: string;
  /** A line a request in `storaged-access.log`. */
  accessLog: boolean;
}

const configVersion = 1;
const examplePort = 8443;

export const defaultConfig: StorageConfig = {
  version: configVersion,
  up: false,
  listen: `127.0.0.1:${examplePort}`,
  http: false,
  domain: null,
  region: "us-east-1",
  accessLog: true,
};

export async function readStorageConfig(path: string): Promise<StorageConfig> {
  if (!(await exists(path))) return defaultConfig;
  return { ...defaultConfig, ...(await readVersionedJson<StorageConfig>(path, configVersion)) };
}

export async function writeStorageConfig(path: string, config: StorageConfig): Promise<void> {
  await writeVersionedJson(path, config);
}

/** Throws where an address or a domain is none. */
export function checkConfig(config: StorageConfig): StorageConfig {
  parseListen(config.listen, examplePort);
  if (!/^[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])$/.test(config.region)) {
    throw fail("REGION_INVALID", { region: config.region.slice(0, 100) });
  }
  if (config.domain === null) return config;
  const domain = config.domain.toLowerCase().replace(/\.$/, "");
  const label = "[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?";
  const why =
    domain.length > 190
      ? "it is too long"
      : isIP(domain) !== 0
        ? "it is an address"
        : !new RegExp(`^${label}(?:\\.${label})+$`).test(domain)
          ? "it is not a DNS name of at least two parts"
          : undefined;
  if (why !== undefined) throw fail("DOMAIN_INVALID", { domain: config.domain.slice(0, 200), why });
  return { ...config, domain };
}

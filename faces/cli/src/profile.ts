import { readFile } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import type { Storage } from "@skep/api";
import { ensureDirectory, readFileIfThere, writeFileAtomic } from "@skep/base";
import { type AwsPaths, readProfile, writeProfile } from "./aws-files.ts";
import type { Context } from "./context.ts";
import { isSignedBy, parseEndpoint } from "./endpoint.ts";
import { fail } from "./errors.ts";

/** An endpoint, and what a profile has to say of it. */
export interface ProfileEndpoint {
  url: URL;
  region: string;
  /** Served by the skepd that this command drives. */
  ours: boolean;
  /** The CA that vouches for it besides the system's, where there is one. */
  authority?: { pem: string; path: string };
}

export interface EndpointFlags {
  endpointUrl?: string;
  region?: string;
  caBundle?: string;
}

const loopback = /^(?:localhost|127(?:\.\d+){3}|\[::1\])$/;

/** Where the storage of the driven skepd is reached from here; undefined while it is down. */
export function servedEndpoint(storage: Storage, host: string | undefined): URL | undefined {
  if (storage.endpoint === null) return undefined;
  const url = new URL(storage.endpoint);
  if (host === undefined) return url;
  // The host is known under the name with which its skepd is driven.
  url.hostname = new URL(host.includes("://") ? host : `https://${host}`).hostname;
  return url;
}

/** The endpoint that is named, or the profile's, or the one that is served here. */
export async function findEndpoint(
  context: Context,
  paths: AwsPaths,
  profile: string,
  flags: EndpointFlags,
): Promise<ProfileEndpoint> {
  const storage = await (await context.client()).call("getStorage");
  const kept = await readProfile(paths, "config", profile);
  const served = servedEndpoint(storage, context.host);
  const named = flags.endpointUrl ?? kept.endpoint_url ?? served?.origin;
  if (named === undefined) throw fail("ENDPOINT_UNKNOWN");
  const url = parseEndpoint(named);
  const ours = isSame(url, served) || (await isSignedBy(url, storage.authority));
  const authority =
    flags.caBundle === undefined
      ? ours && url.protocol === "https:"
        ? { pem: storage.authority, path: await authorityFile(context, paths, url, storage) }
        : undefined
      : { pem: await readBundle(flags.caBundle), path: resolve(flags.caBundle) };
  return {
    url,
    region: flags.region ?? (ours ? storage.region : (kept.region ?? "us-east-1")),
    ours,
    ...(authority === undefined ? {} : { authority }),
  };
}

function isSame(url: URL, served: URL | undefined): boolean {
  if (served === undefined || url.protocol !== served.protocol || url.port !== served.port) return false;
  return url.hostname === served.hostname || (loopback.test(url.hostname) && loopback.test(served.hostname));
}

/** skepd's own file on this host; of another host's CA a copy beside the config file. */
async function authorityFile(context: Context, paths: AwsPaths, url: URL, storage: Storage): Promise<string> {
  if (context.host === undefined) return storage.authorityPath;
  const name = `skep-ca-${url.hostname.replace(/[^\w.-]/g, "_")}.pem`;
  const path = join(dirname(paths.config), name);
  await ensureDirectory(dirname(path));
  if ((await readFileIfThere(path)) !== storage.authority) await writeFileAtomic(path, storage.authority);
  return path;
}

async function readBundle(path: string): Promise<string> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    throw fail("INPUT_UNREADABLE", { path, why: (error as Error).message }, { cause: error });
  }
}

/** Writes what the endpoint is into the config file; a CA of another endpoint goes. */
export async function writeEndpoint(
  paths: AwsPaths,
  profile: string,
  endpoint: ProfileEndpoint,
): Promise<void> {
  await writeProfile(paths, "config", profile, {
    region: endpoint.region,
    endpoint_url: endpoint.url.origin,
    ca_bundle: endpoint.authority?.path,
  });
}

/** What of the environment AWS tools would take instead of the profile. */
export function overridingVariables(
  endpoint: ProfileEndpoint,
  environment: NodeJS.ProcessEnv = process.env,
): string[] {
  const wanted: Record<string, string | undefined> = {
    AWS_CA_BUNDLE: endpoint.authority?.path,
    AWS_ENDPOINT_URL: endpoint.url.origin,
    AWS_ENDPOINT_URL_S3: endpoint.url.origin,
  };
  return Object.keys(wanted).filter((name) => environment[name] && environment[name] !== wanted[name]);
}

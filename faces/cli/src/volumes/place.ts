import { readFile } from "node:fs/promises";
import type { VolumePlace } from "@skep/api";
import type { Command } from "commander";
import { awsPaths, checkProfile, readProfile } from "../aws-files.ts";
import type { Context } from "../context.ts";
import type { Keys } from "../endpoint.ts";
import { fail, usage } from "../errors.ts";
import { findEndpoint } from "../profile.ts";

/** Where a volume's store is, as AWS tools say it. */
export interface PlaceFlags {
  endpointUrl?: string;
  profile?: string;
  region?: string;
  caBundle?: string;
  bucket?: string;
  verifySsl: boolean;
}

export function addPlaceOptions(command: Command): Command {
  return command
    .optionsGroup("Store:")
    .option("--endpoint-url <url>", "an S3 endpoint; default: this host's own object store")
    .option("--profile <name>", "whose keys and endpoint; default: $AWS_PROFILE, or default")
    .option("--region <name>", "the endpoint's region")
    .option("--ca-bundle <file>", "the CA of an endpoint that is not skep's")
    .option("--no-verify-ssl", "accept any certificate")
    .option("--bucket <name>", "default: skep-volumes; made where it is missing");
}

type Environment = Record<string, string | undefined>;

/**
 * What skepd has to know to reach the store; undefined: its own one. Keys are taken as AWS tools take them:
 * from the environment unless a profile is named, else from the profile.
 */
export async function placeOf(
  context: Context,
  flags: PlaceFlags,
  environment: Environment = process.env,
): Promise<VolumePlace | undefined> {
  const bucket = flags.bucket === undefined ? {} : { bucket: flags.bucket };
  const own = flags.bucket === undefined ? undefined : bucket;
  if (flags.endpointUrl === undefined && flags.profile === undefined) return own;
  const paths = awsPaths();
  const profile = checkProfile(
    flags.profile ?? (environment.AWS_PROFILE || environment.AWS_DEFAULT_PROFILE || "default"),
  );
  const kept = await readProfile(paths, "config", profile);
  const caBundle = flags.caBundle ?? (kept.ca_bundle || environment.AWS_CA_BUNDLE);
  const region = flags.region ?? (environment.AWS_REGION || environment.AWS_DEFAULT_REGION);
  const endpoint = await findEndpoint(context, paths, profile, {
    ...(flags.endpointUrl === undefined ? {} : { endpointUrl: flags.endpointUrl }),
    ...(region === undefined || region === "" ? {} : { region }),
  });
  if (endpoint.ours) return own;
  const keys = await keysOf(paths, profile, flags.profile !== undefined, environment);
  if (keys === undefined) throw fail("PROFILE_KEYS", { profile, endpoint: endpoint.url.origin });
  return {
    endpoint: endpoint.url.origin,
    region: endpoint.region,
    ...keys,
    ...bucket,
    ...(flags.verifySsl ? {} : { verify: false }),
    ...(caBundle === undefined || caBundle === "" ? {} : { authority: await readAuthority(caBundle) }),
  };
}

async function keysOf(
  paths: ReturnType<typeof awsPaths>,
  profile: string,
  isNamed: boolean,
  environment: Environment,
): Promise<Keys | undefined> {
  const { AWS_ACCESS_KEY_ID: id, AWS_SECRET_ACCESS_KEY: given, AWS_SESSION_TOKEN: session } = environment;
  if (!isNamed && id && given) {
    if (session) throw usage("keys with a session token end too soon for a volume", "give lasting ones");
    return { accessKeyId: id, secret: given };
  }
  // What `skep auth` writes to where no profile is named.
  const candidates = isNamed || profile !== "default" ? [profile] : ["default", "skep"];
  for (const candidate of candidates) {
    const kept = await readProfile(paths, "credentials", candidate);
    const { aws_access_key_id: accessKeyId, aws_secret_access_key: secret } = kept;
    if (accessKeyId !== undefined && secret !== undefined) return { accessKeyId, secret };
  }
  return undefined;
}

async function readAuthority(path: string): Promise<string> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    throw fail("INPUT_UNREADABLE", { path, why: (error as Error).message }, { cause: error });
  }
}

import { hostname, userInfo } from "node:os";
import { type Command, Option } from "commander";
import { type AwsPaths, awsPaths, chosenProfile, readProfile, writeProfile } from "../aws-files.ts";
import { action, type Context } from "../context.ts";
import { givenKeys, type Keys, tryKeys } from "../endpoint.ts";
import { fail } from "../errors.ts";
import { readInput } from "../input.ts";
import {
  type EndpointFlags,
  findEndpoint,
  overridingVariables,
  type ProfileEndpoint,
  writeEndpoint,
} from "../profile.ts";

interface Flags extends EndpointFlags {
  accessKey?: string;
  secretKey?: string;
  /** As the seed spells them. */
  access_key?: string;
  secret_key?: string;
  profile?: string;
  account?: string;
  verify: boolean;
  verifySsl: boolean;
}

interface Chosen {
  keys: Keys;
  from: "given" | "profile" | "made";
}

/** The keys that are given; else the profile's, where they work; else new ones, where this skep serves the endpoint. */
async function chooseKeys(
  context: Context,
  paths: AwsPaths,
  profile: string,
  endpoint: ProfileEndpoint,
  flags: Flags,
): Promise<Chosen> {
  const { accessKey = flags.access_key, secretKey = flags.secret_key } = flags;
  const given = await givenKeys(
    {
      ...(accessKey === undefined ? {} : { accessKey }),
      ...(secretKey === undefined ? {} : { secretKey }),
    },
    () => readInput("-", 4096),
  );
  const trust = { authority: endpoint.authority?.pem, verify: flags.verifySsl };
  if (given !== undefined) {
    if (flags.verify) await tryKeys(endpoint.url, endpoint.region, given, trust);
    return { keys: given, from: "given" };
  }
  const kept = await readProfile(paths, "credentials", profile);
  if (kept.aws_access_key_id !== undefined && kept.aws_secret_access_key !== undefined) {
    const keys = { accessKeyId: kept.aws_access_key_id, secret: kept.aws_secret_access_key };
    try {
      await tryKeys(endpoint.url, endpoint.region, keys, trust);
      return { keys, from: "profile" };
    } catch (error) {
      if (!endpoint.ours) throw error;
    }
  }
  if (!endpoint.ours) throw fail("KEYS_NEEDED", { endpoint: endpoint.url.origin });
  const name = `${userInfo().username}@${hostname()} ${profile}`
    .replace(/[^\x20-\x7e]/g, "_")
    .slice(-64)
    .trim();
  const body = { name, ...(flags.account === undefined ? {} : { account: flags.account }) };
  const { key, secret } = await (await context.client()).call("createKey", { body });
  const keys = { accessKeyId: key.accessKeyId, secret };
  if (flags.verify) await tryKeys(endpoint.url, endpoint.region, keys, trust);
  return { keys, from: "made" };
}

const told: Record<Chosen["from"], string> = {
  given: "has the key",
  profile: "has a good key already:",
  made: "has the new key",
};

export function define(command: Command): void {
  command
    .summary("give AWS tools a key for object storage")
    .description(
      "Writes an access key into a profile of ~/.aws/credentials, and endpoint, region and CA into ~/.aws/config. Other profiles stay as they are. Without a key, one is made, if this skep serves the endpoint.",
    )
    .option("--access-key <id>", "the key's id")
    .option("--secret-key <secret>", "its secret; - reads it from standard input, out of others' sight")
    .addOption(new Option("--access_key <id>", "as --access-key").hideHelp())
    .addOption(new Option("--secret_key <secret>", "as --secret-key").hideHelp())
    .option("--profile <name>", "the profile; default: $AWS_PROFILE, or skep")
    .option(
      "--endpoint-url <url>",
      "https://HOST:PORT; default: the profile's, or the one that is served here",
    )
    .option("--account <name>", "make the new key for this account")
    .option("--region <name>", "the endpoint's region")
    .option("--ca-bundle <file>", "the CA of an endpoint that is not skep's")
    .option("--no-verify", "write the key without trying it")
    .option("--no-verify-ssl", "accept any certificate while trying it")
    .addHelpText(
      "after",
      "\nExamples:\n  skep auth\n  aws --profile skep s3 ls\n  skep auth --access_key ID --secret_key SECRET --profile hivelocal --endpoint-url https://localhost:8443/\n  pass show hive | skep auth --access-key ID --secret-key - --profile hive",
    )
    .action(
      action(async (context, flags: Flags) => {
        const paths = awsPaths();
        const profile = chosenProfile(flags.profile);
        const endpoint = await findEndpoint(context, paths, profile, flags);
        const { keys, from } = await chooseKeys(context, paths, profile, endpoint, flags);
        await writeEndpoint(paths, profile, endpoint);
        await writeProfile(paths, "credentials", profile, {
          aws_access_key_id: keys.accessKeyId,
          aws_secret_access_key: keys.secret,
          aws_session_token: undefined,
        });
        if (context.options.json) {
          const { url, region, authority } = endpoint;
          context.printJson({
            profile,
            endpoint: url.origin,
            region,
            caBundle: authority?.path ?? null,
            accessKeyId: keys.accessKeyId,
            created: from === "made",
            ...paths,
          });
          return;
        }
        context.print(`profile ${profile} ${told[from]} ${keys.accessKeyId} (${paths.credentials})`);
        context.note(`try it: aws --profile ${profile} s3 ls`);
        context.note(
          `tools that know no endpoint_url in a profile need --endpoint-url ${endpoint.url.origin}`,
        );
        for (const name of overridingVariables(endpoint))
          context.note(
            `the variable ${name} is set, and AWS tools heed it more than the profile: unset ${name}`,
          );
        if (!flags.verifySsl) context.note("and each call of AWS tools needs --no-verify-ssl then, too");
      }),
    );
}

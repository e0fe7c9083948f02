import type { Command } from "commander";
import { awsPaths, chosenProfile } from "../aws-files.ts";
import { action } from "../context.ts";
import { type EndpointFlags, findEndpoint, writeEndpoint } from "../profile.ts";

export function define(command: Command): void {
  command
    .summary("tell AWS tools where object storage is")
    .description(
      "Writes endpoint, region and CA of object storage into a profile of ~/.aws/config; `skep auth` adds the keys.",
    )
    .option("--endpoint-url <url>", "https://HOST:PORT; default: the one that is served here")
    .option("--profile <name>", "the profile; default: $AWS_PROFILE, or skep")
    .option("--region <name>", "its region")
    .option("--ca-bundle <file>", "the CA of an endpoint that is not skep's")
    .addHelpText(
      "after",
      "\nExamples:\n  skep configure --endpoint-url https://localhost:8443/\n  skep configure --profile other --endpoint-url https://s3.example.org --region eu-central-1",
    )
    .action(
      action(async (context, flags: EndpointFlags & { profile?: string }) => {
        const paths = awsPaths();
        const profile = chosenProfile(flags.profile);
        const endpoint = await findEndpoint(context, paths, profile, flags);
        await writeEndpoint(paths, profile, endpoint);
        const { url, region, authority } = endpoint;
        if (context.options.json) {
          const caBundle = authority?.path ?? null;
          context.printJson({ profile, endpoint: url.origin, region, caBundle, config: paths.config });
        } else {
          context.print(`profile ${profile} uses ${url.origin} (${paths.config})`);
          context.note(`next: skep auth --profile ${profile}`);
        }
      }),
    );
}

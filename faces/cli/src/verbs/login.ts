import { ApiClient } from "@skep/api";
import type { Command } from "commander";
import { action } from "../context.ts";
import { readInput } from "../input.ts";

export function define(command: Command): void {
  command
    .summary("remember a remote skepd")
    .description(
      "Checks a token against a remote skepd and keeps it in your configuration, for --host and SKEP_HOST.",
    )
    .argument("<url>", "https://HOST:8440")
    .option(
      "--token <token>",
      "what `skep token create` has shown there (or SKEP_TOKEN; else it is read from standard input)",
    )
    .addHelpText(
      "after",
      "\nExamples:\n  skep login https://lab:8440 --token skep1…\n  skep --host https://lab:8440 ls",
    )
    .action(
      action(async (context, url: string, flags: { token?: string }) => {
        const { normalHost, rememberHost } = await import("../hosts.ts");
        const host = normalHost(url);
        const given = flags.token ?? process.env.SKEP_TOKEN;
        if (given === undefined && process.stdin.isTTY)
          context.note("paste the token, then press Enter and Ctrl-D:");
        const token = (given ?? (await readInput("-", 4096))).trim();
        await using client = new ApiClient({ url: host, token });
        const server = await client.call("version");
        const path = await rememberHost(host, token);
        if (context.options.json) context.printJson({ host, server });
        else context.print(`logged in to ${host} (skepd ${server.version})`);
        context.note(`token kept in ${path}; use it: skep --host ${host} ls`);
      }),
    );
}

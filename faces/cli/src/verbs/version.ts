import type { Command } from "commander";
import { action } from "../context.ts";
import { version } from "../version.ts";

export function define(command: Command): void {
  command
    .summary("show versions")
    .description("Shows the version of this command, and of the skepd that runs; it starts none.")
    .addHelpText("after", "\nExamples:\n  skep version\n  skep version --json")
    .action(
      action(async (context) => {
        const { readDaemonRecord } = await import("../daemon.ts");
        const remote = context.host !== undefined;
        const running = remote || (await readDaemonRecord(context.home)) !== undefined;
        const server = running ? await (await context.client()).call("version") : null;
        if (context.options.json) {
          context.printJson({ client: version, server, node: process.version });
          return;
        }
        context.print(`skep ${version} (node ${process.version})`);
        context.print(
          server === null
            ? "skepd does not run"
            : `skepd ${server.version} (pid ${server.pid}, ${server.home})`,
        );
      }),
    );
}

import { homedir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import type { Command } from "commander";
import { action } from "../context.ts";
import { usage } from "../errors.ts";
import { includeConfig } from "../ssh-include.ts";

export function define(command: Command): void {
  command
    .summary("let ssh NAME.skep find machines")
    .description(
      "Prints an ssh configuration in which each machine is NAME.skep. With --install ssh reads it by itself,\n" +
        "also when machines come and go: one Include line is added to ~/.ssh/config, and nothing else is touched.",
    )
    .option("--install", "add the Include line to ~/.ssh/config")
    .addHelpText(
      "after",
      "\nExamples:\n  skep ssh-config --install && ssh web.skep\n  skep ssh-config > machines.conf && ssh -F machines.conf web.skep",
    )
    .action(
      action(async (context, flags: { install?: boolean }) => {
        if (flags.install === true && context.host !== undefined) {
          throw usage("--install is for the machines of this host", "print it instead: skep ssh-config");
        }
        const config = await text(await (await context.client()).stream("sshConfig"));
        if (flags.install !== true) {
          if (context.options.json) context.printJson({ config });
          else context.print(config);
          return;
        }
        const file = join(context.home, "ssh", "config"); // skepd keeps it as machines come and go
        const { path, added } = await includeConfig(join(homedir(), ".ssh"), file);
        if (context.options.json) context.printJson({ path, include: file, added });
        else context.print(added ? `added to ${path}: Include ${file}` : `${path} includes ${file} already`);
      }),
    );
}

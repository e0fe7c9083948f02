import type { Command } from "commander";
import { action } from "../context.ts";
import { runRemote } from "../remote-run.ts";

export function define(command: Command): void {
  command
    .summary("open a shell in a machine")
    .description(
      "Opens the login shell of a machine; without a name, of the only one. In a pipe it reads a script.",
    )
    .argument("[name]", "machine")
    .option("-u, --user <name>", "log in as another user")
    .addHelpText(
      "after",
      "\nExamples:\n  skep shell web\n  skep shell web -u root\n  skep shell web < script.sh",
    )
    .action(
      action(async (context, name: string | undefined, flags: { user?: string }) => {
        const chosen = await context.onlyMachine(name);
        const tty = process.stdin.isTTY === true && process.stdout.isTTY === true;
        const user = flags.user === undefined ? {} : { user: flags.user };
        return runRemote(context, chosen, { command: [], ...user }, tty);
      }),
    );
}

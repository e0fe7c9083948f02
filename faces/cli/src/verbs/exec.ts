import type { Command } from "commander";
import { action } from "../context.ts";
import { parseEnvironment } from "../environment.ts";
import { fail, usage } from "../errors.ts";
import { runRemote } from "../remote-run.ts";

interface Flags {
  tty?: boolean;
  user?: string;
  env?: string[];
}

const several = (value: string, before: string[] | undefined) => [...(before ?? []), value];

export function define(command: Command, args: readonly string[]): void {
  // Without `--` all that follows the name is the command, options and all.
  command.passThroughOptions(!args.includes("--"));
  command
    .summary("run a command in a machine")
    .description(
      "Runs a command in a machine, with its streams as if it ran here, and ends with its status. Several words\n" +
        "are passed on as they are; a single one with spaces is a line for the machine's shell.",
    )
    .argument("<name>", "machine")
    .argument("[command...]", "command and arguments, after --")
    .option("-t, --tty", "give it a terminal")
    .option("-u, --user <name>", "run it as another user")
    .option("-e, --env <name=value>", "set a variable; NAME alone passes yours on (repeatable)", several)
    .addHelpText(
      "after",
      "\nExamples:\n  skep exec web -- systemctl is-system-running\n  tar c . | skep exec web -- tar x -C /srv\n  skep exec web -t --user root -- top",
    )
    .action(
      action(async (context, name: string, words: string[], flags: Flags) => {
        const wanted = words[0] === "--" ? words.slice(1) : words;
        if (wanted.length === 0)
          throw usage(
            "skep exec needs a command",
            `as in: skep exec ${name} -- uname -a; a prompt: skep shell ${name}`,
          );
        if (flags.tty === true && !process.stdin.isTTY) throw fail("CONSOLE_TTY", { verb: "skep exec" });
        const shellLine = wanted.length === 1 && /\s/.test(wanted[0]!);
        return runRemote(
          context,
          name,
          {
            command: shellLine ? ["sh", "-c", wanted[0]!] : wanted,
            ...(flags.user === undefined ? {} : { user: flags.user }),
            ...(flags.env === undefined ? {} : { env: parseEnvironment(flags.env) }),
          },
          flags.tty === true,
        );
      }),
    );
}

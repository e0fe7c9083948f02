import type { Command } from "commander";
import { action } from "../context.ts";

/** A word as a POSIX shell reads it back. */
export function shellWord(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}

export function define(command: Command): void {
  command
    .summary("show everything about a machine")
    .description("Shows a machine as JSON, or the QEMU command that starts it.")
    .argument("<name>", "machine")
    .option("--qemu", "the QEMU command line, to be pasted into a shell")
    .addHelpText("after", "\nExamples:\n  skep inspect web\n  skep inspect web --qemu")
    .action(
      action(async (context, name: string, flags: { qemu?: boolean }) => {
        const client = await context.client();
        if (flags.qemu !== true) {
          const machine = await client.call("getMachine", { path: { name } });
          context.print(JSON.stringify(machine, null, context.options.json ? undefined : 2));
          return;
        }
        const { command: words } = await client.call("machineQemu", { path: { name } });
        if (context.options.json) context.printJson(words);
        else
          context.print(
            words
              .map(shellWord)
              .join(" ")
              .replace(/ (?=-[a-z])/g, " \\\n  "),
          );
      }),
    );
}

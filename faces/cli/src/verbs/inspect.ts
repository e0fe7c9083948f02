import type { Command } from "commander";
import { action } from "../context.ts";

/** A word as a POSIX shell reads it back. */
export function shellWord(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}

const shellLine = (words: readonly string[]) => words.map(shellWord).join(" ");

/** One option a line. */
function shellText(words: readonly string[]): string {
  const lines: string[] = [];
  for (const word of words) {
    if (/^-[a-z]/.test(word) || lines.length === 0) lines.push(shellWord(word));
    else lines.push(`${lines.pop()} ${shellWord(word)}`);
  }
  return lines.join(" \\\n  ");
}

export function define(command: Command): void {
  command
    .summary("show everything about a machine")
    .description("Shows a machine as JSON, or the QEMU command that starts it.")
    .argument("<name>", "machine")
    .option("--qemu", "the QEMU command line, to be pasted into a shell once the machine is stopped")
    .addHelpText("after", "\nExamples:\n  skep inspect web\n  skep inspect web --qemu")
    .action(
      action(async (context, name: string, flags: { qemu?: boolean }) => {
        const client = await context.client();
        if (flags.qemu !== true) {
          const machine = await client.call("getMachine", { path: { name } });
          context.print(JSON.stringify(machine, null, context.options.json ? undefined : 2));
          return;
        }
        const { command: words, directories } = await client.call("machineQemu", { path: { name } });
        if (context.options.json) context.printJson(words);
        else context.print(`${shellLine(["mkdir", "-pm", "700", ...directories])} &&\n${shellText(words)}`);
      }),
    );
}

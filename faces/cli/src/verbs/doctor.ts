import type { Check } from "@skep/api";
import type { Command } from "commander";
import { action } from "../context.ts";
import { printable, type Style, styleFor, widthOf } from "../style.ts";

/** Words in lines of at most `width`; a word that is longer stands alone. */
function wrap(text: string, width: number): string[] {
  const lines: string[] = [];
  for (const word of text.split(" ")) {
    const last = lines.at(-1);
    if (last === undefined || last.length + 1 + word.length > width) lines.push(word);
    else lines[lines.length - 1] = `${last} ${word}`;
  }
  return lines;
}

/** `columns` of the terminal; undefined in a pipe, where nothing is wrapped. */
function block(check: Check, style: Style, width: number, columns: number | undefined): string {
  const marks = {
    ok: style.green("ok     "),
    warning: style.yellow("warning"),
    failed: style.red("failed "),
  };
  const indent = " ".repeat(width + 11);
  const room = columns === undefined ? Number.POSITIVE_INFINITY : Math.max(30, columns - indent.length - 1);
  const detail = wrap(printable(check.detail), room).join(`\n${indent}`);
  const fix = check.fix === null ? "" : `\n${indent}${style.dim(`fix: ${printable(check.fix)}`)}`;
  return `${marks[check.status]}  ${printable(check.name).padEnd(width)}  ${detail}${fix}`;
}

export function define(command: Command): void {
  command
    .summary("check what this host needs")
    .description(
      "Checks whether this host has what skep needs, and says what to do where it has not. Status 1 if a check failed.",
    )
    .option("--thorough", "read all that object storage has stored, however long that takes")
    .addHelpText("after", "\nExamples:\n  skep doctor\n  skep doctor --json")
    .action(
      action(async (context, flags: { thorough?: boolean }) => {
        const query = flags.thorough === true ? { thorough: true } : {};
        const checks = await (await context.client()).call("doctor", { query });
        const failed = checks.some((check) => check.status === "failed");
        if (context.options.json) {
          context.printJson(checks);
        } else {
          const style = styleFor(process.stdout);
          const width = Math.max(0, ...checks.map((check) => check.name.length));
          const shown = context.options.quiet ? checks.filter((check) => check.status !== "ok") : checks;
          context.print(shown.map((check) => block(check, style, width, widthOf(process.stdout))).join("\n"));
        }
        return failed ? 1 : 0;
      }),
    );
}

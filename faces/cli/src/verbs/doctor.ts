import type { Check } from "@skep/api";
import type { Command } from "commander";
import { action } from "../context.ts";
import { printable, type Style, styleFor } from "../style.ts";

function line(check: Check, style: Style, width: number): string {
  const marks = {
    ok: style.green("ok     "),
    warning: style.yellow("warning"),
    failed: style.red("failed "),
  };
  const fix = check.fix === null ? "" : `\n${" ".repeat(9)}${style.dim(`fix: ${printable(check.fix)}`)}`;
  return `${marks[check.status]}  ${printable(check.name).padEnd(width)}  ${printable(check.detail)}${fix}`;
}

export function define(command: Command): void {
  command
    .summary("check what this host needs")
    .description(
      "Checks whether this host has what skep needs, and says what to do where it has not. Status 1 if a check failed.",
    )
    .addHelpText("after", "\nExamples:\n  skep doctor\n  skep doctor --json")
    .action(
      action(async (context) => {
        const checks = await (await context.client()).call("doctor");
        const failed = checks.some((check) => check.status === "failed");
        if (context.options.json) {
          context.printJson(checks);
        } else {
          const style = styleFor(process.stdout);
          const width = Math.max(0, ...checks.map((check) => check.name.length));
          const shown = context.options.quiet ? checks.filter((check) => check.status !== "ok") : checks;
          context.print(shown.map((check) => line(check, style, width)).join("\n"));
        }
        return failed ? 1 : 0;
      }),
    );
}

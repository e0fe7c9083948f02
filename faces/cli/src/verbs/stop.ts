import { parseDuration } from "@skep/base";
import type { Command } from "commander";
import { announce } from "../announce.ts";
import { action } from "../context.ts";

interface Flags {
  all?: boolean;
  force?: boolean;
  timeout?: string;
}

export function define(command: Command): void {
  command
    .summary("stop machines")
    .description("Shuts machines down: by ACPI, then the agent, then QEMU's own quit, each with its time.")
    .argument("[names...]", "machines")
    .option("-a, --all", "all machines that run")
    .option("--force", "cut the power at once")
    .option("--timeout <duration>", "how long the guest may take, as in 30s")
    .addHelpText(
      "after",
      "\nExamples:\n  skep stop web\n  skep stop --all --timeout 2m\n  skep stop web --force",
    )
    .action(
      action(async (context, names: string[], flags: Flags) => {
        const body = {
          ...(flags.force === true ? { force: true } : {}),
          ...(flags.timeout === undefined ? {} : { timeoutSeconds: parseDuration(flags.timeout) / 1000 }),
        };
        const chosen = await context.chosenMachines(
          names,
          flags.all,
          (machine) => machine.state !== "stopped" && machine.state !== "suspended",
        );
        await context.forEach(
          chosen,
          (name, view) => context.job("stopMachine", { path: { name }, body }, view),
          (done) => announce(context, done, false),
        );
      }),
    );
}

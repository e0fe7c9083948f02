import { parseDuration } from "@skep/base";
import type { Command } from "commander";
import { announce } from "../announce.ts";
import { action } from "../context.ts";

interface Flags {
  all?: boolean;
  force?: boolean;
  timeout?: string;
  wait?: boolean;
}

export function define(command: Command): void {
  command
    .summary("stop and start machines")
    .description("Shuts machines down and starts them again, with what `skep edit` has changed meanwhile.")
    .argument("[names...]", "machines")
    .option("-a, --all", "all machines that run")
    .option("--force", "cut the power instead of shutting down")
    .option("-w, --wait", "end when ssh or the agent answers")
    .option("--timeout <duration>", "how long the guest may take to shut down, as in 30s")
    .addHelpText("after", "\nExamples:\n  skep restart web\n  skep restart --all")
    .action(
      action(async (context, names: string[], flags: Flags) => {
        const body = {
          ...(flags.wait === true ? { wait: true } : {}),
          ...(flags.force === true ? { force: true } : {}),
          ...(flags.timeout === undefined ? {} : { timeoutSeconds: parseDuration(flags.timeout) / 1000 }),
        };
        const chosen = await context.chosenMachines(
          names,
          flags.all,
          (machine) => machine.state === "running",
        );
        await context.forEach(
          chosen,
          (name, view) => context.job("restartMachine", { path: { name }, body }, view),
          (done) => announce(context, done),
        );
      }),
    );
}

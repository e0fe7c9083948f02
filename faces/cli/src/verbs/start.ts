import { parseDuration } from "@skep/base";
import type { Command } from "commander";
import { announce } from "../announce.ts";
import { action } from "../context.ts";

interface Flags {
  all?: boolean;
  cold?: boolean;
  wait?: boolean;
  timeout?: string;
}

export function define(command: Command): void {
  command
    .summary("start machines")
    .description(
      "Starts machines. One that runs already is left as it is; one that is suspended goes on where it was, as with " +
        "`skep resume`.",
    )
    .argument("[names...]", "machines")
    .option("-a, --all", "all machines that do not run")
    .option("--cold", "boot suspended machines from their disks, and give up their memory")
    .option("-w, --wait", "end when ssh or the agent answers")
    .option("--timeout <duration>", "how long --wait waits, as in 90s or 5m")
    .addHelpText("after", "\nExamples:\n  skep start web\n  skep start web db --wait\n  skep start --all")
    .action(
      action(async (context, names: string[], flags: Flags) => {
        const body = {
          ...(flags.cold === true ? { cold: true } : {}),
          ...(flags.wait === true ? { wait: true } : {}),
          ...(flags.timeout === undefined ? {} : { waitSeconds: parseDuration(flags.timeout) / 1000 }),
        };
        const chosen = await context.chosenMachines(
          names,
          flags.all,
          (machine) => machine.state === "stopped" || machine.state === "suspended",
        );
        await context.forEach(
          chosen,
          (name, view) => context.job("startMachine", { path: { name }, body }, view),
          (done) => announce(context, done),
        );
      }),
    );
}

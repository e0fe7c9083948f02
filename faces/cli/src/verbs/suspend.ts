import type { SuspendResult } from "@skep/api";
import type { Command } from "commander";
import { action } from "../context.ts";
import { suspensionText } from "../machine-text.ts";
import { tellResults } from "../results.ts";

export function define(command: Command): void {
  command
    .summary("put machines to sleep with their memory")
    .description(
      "Stores the memory of running machines on disk and ends them, so that they go on where they were with " +
        "`skep resume`, also after a restart of the host. Ctrl-C leaves them running.",
    )
    .argument("[names...]", "machines")
    .option("-a, --all", "all machines that run")
    .addHelpText("after", "\nExamples:\n  skep suspend web\n  skep suspend --all\n  skep suspend web --json")
    .action(
      action(async (context, names: string[], flags: { all?: boolean }) => {
        const chosen = await context.chosenMachines(
          names,
          flags.all,
          (machine) => machine.state === "running",
        );
        const results = new Map<string, SuspendResult>();
        await context.forEach(
          chosen,
          async (name, view) => {
            const result = await context.job("suspendMachine", { path: { name }, body: {} }, view);
            results.set(name, result as SuspendResult);
          },
          (done) =>
            tellResults(context, done, results, ({ machine: { name, suspended } }) =>
              suspended === null
                ? `${name} is suspended`
                : `${name} is suspended: ${suspensionText(suspended)}`,
            ),
        );
      }),
    );
}

import type { SuspendResult } from "@skep/api";
import type { Command } from "commander";
import { action } from "../context.ts";
import { type HookFlags, hookRequest } from "../hooks.ts";
import { suspendedText } from "../machine-text.ts";
import { tellResults } from "../results.ts";

export function define(command: Command): void {
  command
    .summary("put machines to sleep with their memory")
    .description(
      "Stores the memory of running machines on disk and ends them, so that they go on where they were with " +
        "`skep resume`, also after a restart of the host. Ctrl-C leaves them running. A guest's own programs in " +
        "/etc/skep/before-suspend.d are run before; where one fails, the machine runs on.",
    )
    .argument("[names...]", "machines")
    .option("-a, --all", "all machines that run")
    .option("--no-hooks", "do not run the guest's programs for this (/etc/skep/before-suspend.d)")
    .option("--hook-timeout <duration>", "how long each of them may take; default 30s")
    .addHelpText("after", "\nExamples:\n  skep suspend web\n  skep suspend --all\n  skep suspend web --json")
    .action(
      action(async (context, names: string[], flags: HookFlags & { all?: boolean }) => {
        const chosen = await context.chosenMachines(
          names,
          flags.all,
          (machine) => machine.state === "running",
        );
        const body = hookRequest(flags);
        const results = new Map<string, SuspendResult>();
        await context.forEach(
          chosen,
          async (name, view) => {
            const result = await context.job("suspendMachine", { path: { name }, body }, view);
            results.set(name, result as SuspendResult);
          },
          (done) => tellResults(context, done, results, suspendedText),
        );
      }),
    );
}

import type { Command } from "commander";
import { action } from "../context.ts";

interface Flags {
  all?: boolean;
  force?: boolean;
  keepVolumes?: boolean;
}

export function define(command: Command): void {
  command
    .summary("remove machines")
    .description(
      "Removes machines with their disks. A running one is refused, unless --force stops it first. Volumes that " +
        "were attached are kept; a root or UEFI volume goes with its machine.",
    )
    .argument("[names...]", "machines")
    .option("-a, --all", "all machines")
    .option("--force", "stop them first")
    .option("--keep-volumes", "keep their root and UEFI volumes, too")
    .addHelpText("after", "\nExamples:\n  skep rm web\n  skep rm web db --force")
    .action(
      action(async (context, names: string[], flags: Flags) => {
        const query = {
          ...(flags.force === true ? { force: true } : {}),
          ...(flags.keepVolumes === true ? { keepVolumes: true } : {}),
        };
        const chosen = await context.chosenMachines(names, flags.all);
        await context.forEach(
          chosen,
          (name, view) => context.job("removeMachine", { path: { name }, query }, view),
          async (removed) => {
            if (context.options.json) context.printJson({ removed });
            else if (removed.length > 0) context.print(removed.join("\n"));
          },
        );
      }),
    );
}

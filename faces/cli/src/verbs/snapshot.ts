import type { MachineSnapshot, MachineSnapshotRestored } from "@skep/api";
import { parseDuration } from "@skep/base";
import type { Command } from "commander";
import { action, type Context } from "../context.ts";
import { printList } from "../listing.ts";
import { tell } from "../results.ts";
import { restoredTexts, snapshotColumns, snapshotText, takenText, treeText } from "../snapshots/text.ts";
import { printable, styleFor } from "../style.ts";

async function list(context: Context, name: string): Promise<MachineSnapshot[]> {
  const snapshots = await (await context.client()).call("listMachineSnapshots", { path: { name } });
  if (snapshots.length === 0 && !context.options.json) {
    context.note(`no snapshots of ${printable(name)} yet; take one: skep snapshot create ${printable(name)}`);
  }
  return snapshots;
}

interface RestoreFlags {
  discard?: boolean;
  cold?: boolean;
  wait?: boolean;
  timeout?: string;
}

async function restore(context: Context, name: string, snapshot: string, flags: RestoreFlags): Promise<void> {
  const { discard, cold, wait, timeout } = flags;
  const body = {
    ...(discard === true ? { discard } : {}),
    ...(cold === true ? { cold } : {}),
    ...(wait === true ? { wait } : {}),
    ...(timeout === undefined ? {} : { waitSeconds: parseDuration(timeout) / 1000 }),
  };
  const result = (await context.job("restoreMachineSnapshot", {
    path: { name, snapshot },
    body,
  })) as MachineSnapshotRestored;
  tell(context, result, [name], restoredTexts(result));
}

async function remove(context: Context, name: string, snapshots: string[]): Promise<void> {
  for (const snapshot of new Set(snapshots)) {
    await context.job("removeMachineSnapshot", { path: { name, snapshot } });
  }
  if (context.options.json) context.printJson({ removed: snapshots });
  else context.print(snapshots.join("\n"));
}

export function define(command: Command): void {
  command
    .summary("keep machines as they are, and set them back")
    .description(
      "A snapshot is a machine as it stood at one instant: its disks, and its memory where it ran. A machine that " +
        "runs goes on after a short pause. What a snapshot shares with its machine is stored once.",
    )
    .addHelpText(
      "after",
      "\nExamples:\n  skep snapshot create web before-upgrade\n  skep snapshot tree web\n" +
        "  skep snapshot restore web before-upgrade\n  skep snapshot rm web before-upgrade",
    );
  command
    .command("create")
    .description("Keep a machine as it is now. Ctrl-C leaves it as it was, without a snapshot.")
    .argument("<name>", "machine")
    .argument("[snapshot]", "its name; default: snapshot-1 and on")
    .option("--no-memory", "only the disks; the agent holds the guest's file systems still meanwhile")
    .action(
      action(async (context, name: string, snapshot: string | undefined, flags: { memory: boolean }) => {
        const body = {
          ...(snapshot === undefined ? {} : { name: snapshot }),
          ...(flags.memory ? {} : { memory: false }),
        };
        const made = (await context.job("createMachineSnapshot", {
          path: { name },
          body,
        })) as MachineSnapshot;
        tell(context, made, [made.name], [takenText(made)]);
      }),
    );
  command
    .command("ls")
    .description("List a machine's snapshots, oldest first.")
    .argument("<name>", "machine")
    .action(
      action(async (context, name: string) => {
        const snapshots = await list(context, name);
        printList(
          context,
          snapshots,
          snapshotColumns(snapshots, styleFor(process.stdout)),
          (one) => one.name,
        );
      }),
    );
  command
    .command("show")
    .description("Show all about a snapshot.")
    .argument("<name>", "machine")
    .argument("<snapshot>", "its name")
    .action(
      action(async (context, name: string, snapshot: string) => {
        const client = await context.client();
        const found = await client.call("getMachineSnapshot", { path: { name, snapshot } });
        if (context.options.json) context.printJson(found);
        else if (context.options.quiet) context.print(found.name);
        else context.print(snapshotText(found, styleFor(process.stdout)));
      }),
    );
  command
    .command("restore")
    .description(
      "Set a machine back to a snapshot: it goes on where it was then, or boots from the disks of then. What it " +
        "is now is kept as another snapshot.",
    )
    .argument("<name>", "machine")
    .argument("<snapshot>", "its name")
    .option("--discard", "do not keep what it is now")
    .option("--cold", "only the disks: it boots from them, as after a power cut")
    .option("-w, --wait", "end when ssh or the agent answers")
    .option("--timeout <duration>", "how long --wait waits, as in 90s or 5m")
    .action(action(restore));
  command
    .command("rm")
    .description("Remove snapshots. Those that were made after them stay as they are.")
    .argument("<name>", "machine")
    .argument("<snapshots...>", "their names")
    .action(action(remove));
  command
    .command("tree")
    .description("Show which snapshot was made after which, and where the machine goes on from.")
    .argument("<name>", "machine")
    .action(
      action(async (context, name: string) => {
        const snapshots = await list(context, name);
        if (context.options.json) context.printJson(snapshots);
        else context.print(treeText(snapshots, styleFor(process.stdout)));
      }),
    );
}

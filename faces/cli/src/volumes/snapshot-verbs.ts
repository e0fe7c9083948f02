import type { Volume, VolumeSnapshot } from "@skep/api";
import type { Command } from "commander";
import { action, type Context } from "../context.ts";
import { usage } from "../errors.ts";
import { printList } from "../listing.ts";
import { addSettingOptions, parseVolumeSize, type SettingFlags, settingsOf } from "./settings.ts";
import { snapshotColumns, tell } from "./text.ts";

/** `vol snapshot` and `vol clone`. */
export function defineSnapshots(command: Command): void {
  const snapshot = command
    .command("snapshot")
    .description(
      "What volumes held at one instant; no data is copied. `skep vol snapshot VOLUME` takes one.",
    );
  snapshot
    .command("create", { isDefault: true })
    .description("Take a snapshot, also while the volume is in use. Its id is printed.")
    .argument("<volume>", "id or name")
    .option("--name <name>", "to be called VOLUME@NAME")
    .action(
      action(async (context, volume: string, flags: { name?: string }) => {
        const made = (await context.job("createSnapshot", {
          path: { volume },
          body: { ...flags },
        })) as VolumeSnapshot;
        if (context.options.json) context.printJson(made);
        else context.print(made.id);
      }),
    );
  snapshot
    .command("ls")
    .description("List the snapshots of a volume, or of all.")
    .argument("[volume]", "id or name")
    .action(
      action(async (context, volume: string | undefined) => {
        const client = await context.client();
        const volumes =
          volume === undefined
            ? await client.call("listVolumes")
            : [await client.call("getVolume", { path: { volume } })];
        printList(
          context,
          volumes.flatMap(({ snapshots }) => snapshots),
          snapshotColumns,
          ({ id }) => id,
        );
      }),
    );
  snapshot
    .command("rm")
    .description("Remove snapshots that no clone needs.")
    .argument("<snapshots...>", "ids, or VOLUME@NAME")
    .action(
      action(async (context, snapshots: string[]) => {
        const client = await context.client();
        for (const one of snapshots) {
          const path = one.includes("@") ? splitSnapshot(one) : await findSnapshot(context, one);
          await client.call("removeSnapshot", { path });
        }
        if (context.options.json) context.printJson({ removed: snapshots });
        else context.print(snapshots.join("\n"));
      }),
    );
  addSettingOptions(
    command
      .command("clone")
      .description("Make a volume that begins as another one is now, or was. No data is copied.")
      .argument("<source>", "a volume (a snapshot of it is taken), a snapshot's id, or VOLUME@SNAPSHOT")
      .option("--name <name>", "of the new volume")
      .option("--size <size>", "larger than the source"),
  ).action(
    action(async (context, source: string, flags: SettingFlags & { name?: string; size?: string }) => {
      const body = {
        source,
        ...settingsOf(flags),
        ...(flags.name === undefined ? {} : { name: flags.name }),
        ...(flags.size === undefined ? {} : { sizeBytes: parseVolumeSize(flags.size) }),
      };
      tell(context, (await context.job("cloneVolume", { body })) as Volume);
    }),
  );
}

function splitSnapshot(text: string): { volume: string; snapshot: string } {
  const at = text.indexOf("@");
  return { volume: text.slice(0, at), snapshot: text.slice(at + 1) };
}

async function findSnapshot(context: Context, id: string): Promise<{ volume: string; snapshot: string }> {
  const volumes = await (await context.client()).call("listVolumes");
  const found = volumes.flatMap(({ snapshots }) => snapshots).find((snapshot) => snapshot.id === id);
  if (found === undefined)
    throw usage(`snapshot "${id.slice(0, 80)}" does not exist`, "see: skep vol snapshot ls");
  return { volume: found.volume, snapshot: id };
}

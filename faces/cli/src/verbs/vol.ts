import type { Volume } from "@skep/api";
import type { Command } from "commander";
import { action, type Context } from "../context.ts";
import { usage } from "../errors.ts";
import { printList } from "../listing.ts";
import { styleFor } from "../style.ts";
import { defineData } from "../volumes/data-verbs.ts";
import { addPlaceOptions, type PlaceFlags, placeOf } from "../volumes/place.ts";
import { addSettingOptions, parseVolumeSize, type SettingFlags, settingsOf } from "../volumes/settings.ts";
import { defineSnapshots } from "../volumes/snapshot-verbs.ts";
import { tell, titleOf, volumeColumns, volumeText } from "../volumes/text.ts";

interface AddFlags extends PlaceFlags, SettingFlags {
  name?: string;
  size?: string;
  existing?: string;
  takeOver?: boolean;
  encrypted?: boolean;
}

async function add(context: Context, flags: AddFlags): Promise<void> {
  const { name, size, existing, takeOver, encrypted } = flags;
  const place = await placeOf(context, flags);
  const given = { ...(name === undefined ? {} : { name }), ...(place === undefined ? {} : { place }) };
  const client = await context.client();
  if (existing !== undefined) {
    if (size !== undefined) throw usage("--existing has a size already", "leave --size out");
    const body = { id: existing, ...given, ...(takeOver === true ? { takeOver } : {}) };
    return tell(context, await client.call("adoptVolume", { body }));
  }
  if (size === undefined) throw usage("skep vol add needs --size", "as in: skep vol add --size 20G");
  const sizeBytes = parseVolumeSize(size);
  const body = {
    sizeBytes,
    ...given,
    ...settingsOf(flags),
    ...(encrypted === true ? { encrypted } : {}),
  };
  const volume = await client.call("createVolume", { body });
  tell(context, volume);
  if (!context.options.json) context.note(`attach it: skep vol attach ${titleOf(volume)} MACHINE`);
}

async function list(context: Context): Promise<void> {
  const volumes = await (await context.client()).call("listVolumes");
  printList(context, volumes, volumeColumns(volumes, styleFor(process.stdout)), (volume) => volume.id);
  if (volumes.length === 0 && !context.options.json)
    context.note("no volumes yet; make one: skep vol add --size 20G");
}

async function show(context: Context, names: string[]): Promise<void> {
  const client = await context.client();
  const volumes: Volume[] = [];
  for (const volume of names) volumes.push(await client.call("getVolume", { path: { volume } }));
  if (context.options.json) context.printJson(volumes.length === 1 ? volumes[0] : volumes);
  else if (context.options.quiet) context.print(volumes.map(({ id }) => id).join("\n"));
  else context.print(volumes.map((volume) => volumeText(volume, styleFor(process.stdout))).join("\n"));
}

function defineBasics(command: Command): void {
  addSettingOptions(
    addPlaceOptions(
      command
        .command("add")
        .description("Make a volume, or take up one that is in a store. Its id is printed.")
        .option("--size <size>", "as in 20G; nothing is stored before it is written")
        .option("--name <name>", "so that you need not remember its id")
        .option("--encrypted", "at rest: AES-256-GCM with a key of its own")
        .option("--existing <id>", "take up a volume that another host made, or this one forgot")
        .option("--take-over", "with --existing: although another host has it open"),
    ),
  ).action(action(add));
  command.command("ls").description("List the volumes that this host knows.").action(action(list));
  command
    .command("show")
    .description("Show all about volumes.")
    .argument("<volumes...>", "ids or names")
    .action(action(show));
  addSettingOptions(
    command
      .command("set")
      .description("Change a volume's settings, also while it is in use.")
      .argument("<volume>", "id or name")
      .option("--name <name>", "another name; none takes it away"),
  ).action(
    action(async (context, volume: string, flags: SettingFlags & { name?: string }) => {
      const name = flags.name === undefined ? {} : { name: flags.name === "none" ? null : flags.name };
      const body = { ...settingsOf(flags), ...name };
      if (Object.keys(body).length === 0) throw usage("nothing to change", "see: skep vol set --help");
      tell(context, await (await context.client()).call("editVolume", { path: { volume }, body }));
    }),
  );
  command
    .command("resize")
    .description("Make a volume larger, also while a machine runs on it. File systems grow in the guest.")
    .argument("<volume>", "id or name")
    .argument("<size>", "as in 40G")
    .action(
      action(async (context, volume: string, size: string) => {
        const body = { sizeBytes: parseVolumeSize(size) };
        tell(context, (await context.job("resizeVolume", { path: { volume }, body })) as Volume);
      }),
    );
  command
    .command("rm")
    .description("Remove volumes with all that is stored of them.")
    .argument("<volumes...>", "ids or names")
    .option("--snapshots", "their snapshots, too")
    .option("-f, --force", "take them from their machines first; also where they cannot be read")
    .action(
      action(async (context, volumes: string[], flags: { snapshots?: boolean; force?: boolean }) => {
        const query = {
          ...(flags.snapshots === true ? { snapshots: true } : {}),
          ...(flags.force === true ? { force: true } : {}),
        };
        for (const volume of volumes) await context.job("removeVolume", { path: { volume }, query });
        if (context.options.json) context.printJson({ removed: volumes });
        else context.print(volumes.join("\n"));
      }),
    );
}

function defineAttaching(command: Command): void {
  command
    .command("attach")
    .description("Give a volume to a machine: at once where it runs, else at its next start.")
    .argument("<volume>", "id or name")
    .argument("<machine>", "machine")
    .option("--read-only", "the guest may only read")
    .option("--take-over", "although another host has it open: nothing more is written from there")
    .action(
      action(
        async (
          context,
          volume: string,
          machine: string,
          flags: { readOnly?: boolean; takeOver?: boolean },
        ) => {
          const body = {
            machine,
            ...(flags.readOnly === true ? { readOnly: true } : {}),
            ...(flags.takeOver === true ? { takeOver: true } : {}),
          };
          const attached = (await context.job("attachVolume", { path: { volume }, body })) as {
            device: string | null;
          };
          if (context.options.json) return context.printJson(attached);
          context.print(volume);
          if (attached.device !== null) context.note(`in ${machine} it is ${attached.device}`);
        },
      ),
    );
  command
    .command("detach")
    .description("Take a volume from its machine. A guest that uses it is left alone.")
    .argument("<volume>", "id or name")
    .option("-f, --force", "although the guest uses it; what it has not synced is lost")
    .action(
      action(async (context, volume: string, flags: { force?: boolean }) => {
        const body = flags.force === true ? { force: true } : {};
        const detached = await context.job("detachVolume", { path: { volume }, body });
        if (context.options.json) context.printJson(detached);
        else context.print(volume);
      }),
    );
}

export function define(command: Command): void {
  command
    .summary("make, attach, snapshot and move block devices")
    .description(
      "Volumes are disks of machines that live in object storage: this host's, or any S3. They cost what is written to them.",
    )
    .addHelpText(
      "after",
      "\nExamples:\n  skep vol add --size 20G --name data\n  skep vol attach data web\n  skep vol snapshot data --name before\n  skep vol clone data@before --name copy\n  skep vol export data data.qcow2",
    );
  defineBasics(command);
  defineAttaching(command);
  defineSnapshots(command);
  defineData(command);
}

import { resolve } from "node:path";
import type { Volume, VolumeCheckReport } from "@skep/api";
import { formatSize } from "@skep/base";
import type { Command } from "commander";
import { action, type Context } from "../context.ts";
import { usage } from "../errors.ts";
import { importedFile } from "./input.ts";
import { addPlaceOptions, type PlaceFlags, placeOf } from "./place.ts";
import { addSettingOptions, parseVolumeSize, type SettingFlags, settingsOf } from "./settings.ts";
import { checkText, tell } from "./text.ts";

interface ImportFlags extends PlaceFlags, SettingFlags {
  name?: string;
  size?: string;
  encrypted?: boolean;
}

async function check(context: Context, volume: string): Promise<number> {
  const report = (await context.job("checkVolume", { path: { volume } })) as VolumeCheckReport;
  if (context.options.json) context.printJson(report);
  else context.print(checkText(report));
  return report.findings.every(({ kind }) => kind === "orphan") ? 0 : 1;
}

/** `vol import`, `export`, `check` and `gc`. */
export function defineData(command: Command): void {
  addSettingOptions(
    addPlaceOptions(
      command
        .command("import")
        .description("Make a volume from a qcow2 or raw disk on skepd's host; it is inspected first.")
        .argument("<file>", "the disk; - reads it from standard input")
        .option("--name <name>", "of the new volume")
        .option("--size <size>", "larger than the disk")
        .option("--encrypted", "at rest: AES-256-GCM with a key of its own"),
    ),
  ).action(
    action(async (context, file: string, flags: ImportFlags) => {
      const place = await placeOf(context, flags);
      await using disk = await importedFile(context, file);
      const body = {
        path: disk.path,
        ...settingsOf(flags),
        ...(flags.name === undefined ? {} : { name: flags.name }),
        ...(flags.size === undefined ? {} : { sizeBytes: parseVolumeSize(flags.size) }),
        ...(flags.encrypted === true ? { encrypted: true } : {}),
        ...(place === undefined ? {} : { place }),
      };
      tell(context, (await context.job("importVolume", { body })) as Volume);
    }),
  );
  command
    .command("export")
    .description("Write a volume, as it is at one instant, to a file on skepd's host.")
    .argument("<volume>", "id or name, a snapshot's id, or VOLUME@SNAPSHOT")
    .argument("<file>", "where to")
    .option("--format <format>", "qcow2 or raw; default: raw for .raw and .img, else qcow2")
    .option("-f, --force", "replace a file that is there")
    .action(
      action(async (context, volume: string, file: string, flags: { format?: string; force?: boolean }) => {
        const format = flags.format ?? (/\.(?:raw|img)$/.test(file) ? "raw" : "qcow2");
        if (format !== "qcow2" && format !== "raw")
          throw usage(`format "${format}" is not known`, "write qcow2 or raw");
        const path = context.host === undefined ? resolve(file) : file;
        const body = { path, format, ...(flags.force === true ? { force: true } : {}) } as const;
        const done = (await context.job("exportVolume", { path: { volume }, body })) as {
          path: string;
          bytes: number;
        };
        if (context.options.json) return context.printJson(done);
        context.print(done.path);
        context.note(`${formatSize(done.bytes)} on disk`);
      }),
    );
  command
    .command("check")
    .description("Read all that is stored of a volume and compare checksums. Status 1 where it is damaged.")
    .argument("<volume>", "id or name")
    .action(action(check));
  command
    .command("gc")
    .description("Free what a volume no longer needs in its store at once; it happens by itself, too.")
    .argument("<volume>", "id or name")
    .action(
      action(async (context, volume: string) => {
        const done = (await context.job("collectVolumeGarbage", { path: { volume } })) as {
          deletedObjects: number;
          deletedBytes: number;
          rewrittenBytes: number;
        };
        if (context.options.json) context.printJson(done);
        else
          context.print(
            `${done.deletedObjects} objects, ${formatSize(done.deletedBytes)} freed; ${formatSize(done.rewrittenBytes)} packed anew`,
          );
      }),
    );
}

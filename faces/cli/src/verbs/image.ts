import { resolve } from "node:path";
import type { CatalogEntry, Image } from "@skep/api";
import { formatSize } from "@skep/base";
import type { Command } from "commander";
import { action, type Context } from "../context.ts";
import { usage } from "../errors.ts";
import { readInput } from "../input.ts";
import { ageText } from "../machine-text.ts";
import { parseArch } from "../request.ts";
import { styleFor, widthOf } from "../style.ts";
import { type Column, formatTable } from "../table.ts";

const columns: Column<Image>[] = [
  { title: "NAME", text: (image) => image.name, shrinkTo: 12 },
  { title: "ARCH", text: (image) => image.arch, dropOrder: 2 },
  { title: "SIZE", text: (image) => formatSize(image.storedBytes), align: "right" },
  {
    title: "DISK",
    text: (image) => (image.virtualBytes === 0 ? "-" : formatSize(image.virtualBytes)),
    align: "right",
    dropOrder: 3,
  },
  { title: "USED BY", text: (image) => image.usedBy.join(", ") || "-", shrinkTo: 10, dropOrder: 1 },
  { title: "AGE", text: (image) => ageText(image.createdAt), align: "right", dropOrder: 4 },
  { title: "SOURCE", text: (image) => image.source, shrinkTo: 10, dropOrder: 6 },
  { title: "DIGEST", text: (image) => image.digest.slice(7, 19), dropOrder: 5 },
];

const catalogColumns: Column<CatalogEntry>[] = [
  { title: "NAME", text: (entry) => entry.name },
  { title: "ARCH", text: (entry) => entry.arch },
  { title: "USER", text: (entry) => entry.user, dropOrder: 1 },
  { title: "HERE", text: (entry) => (entry.present ? "yes" : "-") },
  { title: "VERIFIED BY", text: (entry) => entry.verification, shrinkTo: 12, dropOrder: 2 },
];

function table<Row>(
  context: Context,
  rows: readonly Row[],
  shown: Column<Row>[],
  name: (row: Row) => string,
): void {
  if (context.options.json) context.printJson(rows);
  else if (context.options.quiet) context.print(rows.map(name).join("\n"));
  else
    context.print(
      formatTable(rows, shown, { width: widthOf(process.stdout), bold: styleFor(process.stdout).bold }),
    );
}

function tell(context: Context, result: unknown): void {
  const image = result as Image;
  if (context.options.json) context.printJson(image);
  else context.print(image.name);
  if (!context.options.json)
    context.note(
      `${image.name} is here (${image.arch}, ${formatSize(image.storedBytes)}, ${image.digest.slice(0, 19)})`,
    );
}

const archOf = (flags: { arch?: string }) =>
  flags.arch === undefined ? {} : { arch: parseArch(flags.arch) };

export function define(command: Command): void {
  command
    .summary("list, pull, build, import and remove images")
    .description("Base images: immutable disks, kept by digest, from which machines are made.")
    .addHelpText(
      "after",
      "\nExamples:\n  skep image pull alpine-3.22\n  skep image build debian-12\n  skep image build -f recipe.yaml\n  skep image import disk.qcow2 --name old-server",
    );
  command
    .command("ls")
    .description("List the images that are here.")
    .action(
      action(async (context) => {
        const images = await (await context.client()).call("listImages");
        table(context, images, columns, (image) => image.name);
        if (images.length === 0 && !context.options.json)
          context.note("no images yet; see: skep image catalog");
      }),
    );
  command
    .command("catalog")
    .description("List what can be pulled by name.")
    .action(
      action(async (context) => {
        table(context, await (await context.client()).call("catalog"), catalogColumns, (entry) => entry.name);
      }),
    );
  command
    .command("pull")
    .description("Download an image and verify it before use. An interrupted download is resumed.")
    .argument("<name>", "a name of `skep image catalog`, or a URL")
    .option("--as <name>", "keep it under this name")
    .option("--arch <arch>", "x86_64 or aarch64")
    .option("--sha256 <hex>", "the checksum that the download must have")
    .option("--force", "even if it is here")
    .action(
      action(
        async (
          context,
          name: string,
          flags: { as?: string; arch?: string; sha256?: string; force?: boolean },
        ) => {
          const { as, sha256, force } = flags;
          const given = { ...(as === undefined ? {} : { as }), ...(sha256 === undefined ? {} : { sha256 }) };
          const body = { name, ...given, ...archOf(flags), ...(force === true ? { force } : {}) };
          tell(context, await context.job("pullImage", { body }));
        },
      ),
    );
  command
    .command("build")
    .description("Build an image from the distribution's own packages.")
    .argument("[name]", "a built-in recipe (debian-12, tiny), or the new image's name with --file")
    .option("-f, --file <recipe.yaml>", "a recipe (- for standard input)")
    .option("--arch <arch>", "x86_64 or aarch64")
    .option("--source <apt-lines>", "apt source lines, or a file of them, instead of this host's")
    .option("--force", "even if it is here")
    .action(
      action(
        async (
          context,
          name: string | undefined,
          flags: { file?: string; arch?: string; source?: string; force?: boolean },
        ) => {
          if (name === undefined && flags.file === undefined)
            throw usage("name a recipe, or give --file", "as in: skep image build debian-12");
          const isLines = flags.source !== undefined && /^\s*(deb\s|Types:)/.test(flags.source);
          const source =
            flags.source === undefined || isLines ? flags.source : await readInput(flags.source, 262_144);
          const body = {
            ...(name === undefined ? {} : { name }),
            ...(flags.file === undefined ? {} : { recipe: await readInput(flags.file, 1_048_576) }),
            ...archOf(flags),
            ...(source === undefined ? {} : { source }),
            ...(flags.force === true ? { force: true } : {}),
          };
          tell(context, await context.job("buildImage", { body }));
        },
      ),
    );
  command
    .command("import")
    .description("Take in a qcow2 or raw disk, a file on skepd's host; it is inspected first.")
    .argument("<file>", "the disk")
    .option("--name <name>", "keep it under this name; default: the file's")
    .option("--arch <arch>", "x86_64 or aarch64")
    .option("--user <name>", "who logs in")
    .option("--sha256 <hex>", "the checksum that the file must have")
    .action(
      action(
        async (
          context,
          file: string,
          flags: { name?: string; arch?: string; user?: string; sha256?: string },
        ) => {
          const { name, user, sha256 } = flags;
          const body = {
            path: context.host === undefined ? resolve(file) : file,
            ...(name === undefined ? {} : { name }),
            ...(user === undefined ? {} : { user }),
            ...(sha256 === undefined ? {} : { sha256 }),
            ...archOf(flags),
          };
          tell(context, await context.job("importImage", { body }));
        },
      ),
    );
  command
    .command("rm")
    .description("Remove images that no machine needs.")
    .argument("<names...>", "names or digests")
    .option("--arch <arch>", "of this architecture only")
    .action(
      action(async (context, names: string[], flags: { arch?: string }) => {
        const client = await context.client();
        for (const ref of names) await client.call("removeImage", { path: { ref }, query: archOf(flags) });
        if (context.options.json) context.printJson({ removed: names });
        else context.print(names.join("\n"));
      }),
    );
  command
    .command("prune")
    .description(
      "Remove what nobody needs: images that lost their name, left-overs, partial downloads, packages kept for builds.",
    )
    .option("-a, --all", "images with a name, too, unless a machine needs them")
    .action(
      action(async (context, flags: { all?: boolean }) => {
        const query = flags.all === true ? { all: true } : {};
        const pruned = await (await context.client()).call("pruneImages", { query });
        if (context.options.json) context.printJson(pruned);
        else context.print(pruned.removed.join("\n"));
        if (!context.options.json) context.note(`freed ${formatSize(pruned.freedBytes)}`);
      }),
    );
  command
    .command("inspect")
    .description("Show everything about an image, as JSON.")
    .argument("<name>", "name or digest")
    .option("--arch <arch>", "x86_64 or aarch64")
    .action(
      action(async (context, ref: string, flags: { arch?: string }) => {
        const details = await (await context.client()).call("getImage", {
          path: { ref },
          query: archOf(flags),
        });
        context.print(JSON.stringify(details, null, context.options.json ? undefined : 2));
      }),
    );
  command
    .command("verify")
    .description("Read an image's files again and compare their digests.")
    .argument("<name>", "name or digest")
    .action(
      action(async (context, ref: string) => {
        const result = await context.job("verifyImage", { path: { ref } });
        if (context.options.json) context.printJson({ image: ref, result });
        else context.print(`${ref} is as it was`);
      }),
    );
}

import type { Template } from "@skep/api";
import { formatSize } from "@skep/base";
import type { Command } from "commander";
import { action } from "../context.ts";
import { ageText, memoryText } from "../machine-text.ts";
import { parseArch, parseCount, parseDisk, parseMemory } from "../request.ts";
import { styleFor, widthOf } from "../style.ts";
import { type Column, formatTable } from "../table.ts";

const columns: Column<Template>[] = [
  { title: "ID", text: ({ id }) => id },
  { title: "IMAGE", text: ({ image }) => image, shrinkTo: 12 },
  { title: "CPUS", text: ({ cpus }) => `${cpus}`, align: "right", dropOrder: 4 },
  { title: "MEMORY", text: ({ memoryMiB }) => memoryText(memoryMiB), align: "right", dropOrder: 3 },
  {
    title: "DISK",
    text: ({ diskBytes }) => (diskBytes === 0 ? "-" : formatSize(diskBytes)),
    align: "right",
    dropOrder: 2,
  },
  { title: "STATE", text: ({ state }) => state },
  { title: "STORED", text: ({ storedBytes }) => formatSize(storedBytes), align: "right", dropOrder: 1 },
  {
    title: "USED",
    text: ({ usedAt }) => (usedAt === "" ? "-" : ageText(usedAt)),
    align: "right",
    dropOrder: 5,
  },
];

interface Shape {
  arch?: string;
  cpus?: string;
  memory?: string;
  disk?: string;
}

export function define(command: Command): void {
  command
    .summary("keep images booted, for machines that are there at once")
    .description(
      "A template is an image that was booted once and put to sleep. A new machine of its shape begins where it is, " +
        "instead of booting. They are made by themselves once a machine had to boot; see docs/templates.md.",
    )
    .addHelpText(
      "after",
      "\nExamples:\n  skep template build debian-12 --memory 1G\n  skep template ls\n  skep template rm debian-12\n  skep template prune",
    );
  command
    .command("ls")
    .description("List the templates that are here.")
    .action(
      action(async (context) => {
        const templates = await (await context.client()).call("listTemplates");
        if (context.options.json) context.printJson(templates);
        else if (context.options.quiet) context.print(templates.map(({ id }) => id).join("\n"));
        else {
          const { bold } = styleFor(process.stdout);
          context.print(formatTable(templates, columns, { width: widthOf(process.stdout), bold }));
          for (const { id, why } of templates) if (why !== null) context.note(`${id}: ${why}`);
          if (templates.length === 0) context.note("no templates yet; see: skep template build --help");
        }
      }),
    );
  command
    .command("build")
    .description(
      "Boot an image once, out of sight, and keep it so. Give the shape that machines are to have.",
    )
    .argument("[image]", "a name of `skep image ls`; default: this host's default image")
    .option("-c, --cpus <count>", "virtual CPUs")
    .option("-m, --memory <size>", "as in 2G or 512MiB; a bare number counts MiB")
    .option("-d, --disk <size>", "size of the disk, as in 20G")
    .option("--arch <arch>", "x86_64 or aarch64")
    .action(
      action(async (context, image: string | undefined, flags: Shape) => {
        const body = {
          ...(image === undefined ? {} : { image }),
          ...(flags.arch === undefined ? {} : { arch: parseArch(flags.arch) }),
          ...(flags.cpus === undefined ? {} : { cpus: parseCount(flags.cpus, "cpus") }),
          ...(flags.memory === undefined ? {} : { memoryMiB: parseMemory(flags.memory) }),
          ...(flags.disk === undefined ? {} : { diskBytes: parseDisk(flags.disk) }),
        };
        const template = (await context.job("buildTemplate", { body })) as Template;
        if (context.options.json) return context.printJson(template);
        context.print(template.id);
        const { image: name, populatedMiB, storedBytes } = template;
        context.note(
          `${name} is kept booted (${memoryText(populatedMiB)} of memory, ${formatSize(storedBytes)} stored)`,
        );
      }),
    );
  command
    .command("rm")
    .description("Remove templates. Machines that began from them stay as they are.")
    .argument("<templates...>", "ids, or images' names: all of an image")
    .action(
      action(async (context, refs: string[]) => {
        const client = await context.client();
        const removed: string[] = [];
        for (const ref of refs) removed.push(...(await client.call("removeTemplate", { path: { ref } })));
        if (context.options.json) context.printJson({ removed });
        else context.print(removed.join("\n"));
      }),
    );
  command
    .command("prune")
    .description("Remove templates that no machine can begin from any more.")
    .option("-a, --all", "the others, too")
    .action(
      action(async (context, flags: { all?: boolean }) => {
        const query = flags.all === true ? { all: true } : {};
        const pruned = await (await context.client()).call("pruneTemplates", { query });
        if (context.options.json) return context.printJson(pruned);
        context.print(pruned.removed.join("\n"));
        context.note(`freed ${formatSize(pruned.freedBytes)}`);
      }),
    );
}

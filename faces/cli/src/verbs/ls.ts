import type { Machine } from "@skep/api";
import type { Command } from "commander";
import { action } from "../context.ts";
import { matchesFilters, parseFilters } from "../filters.ts";
import { ageText, imageText, memoryText, portsText, stateColour, stateText } from "../machine-text.ts";
import { type Style, styleFor, widthOf } from "../style.ts";
import { type Column, formatTable } from "../table.ts";

const several = (value: string, before: string[] | undefined) => [...(before ?? []), value];

const columns = (style: Style): Column<Machine>[] => [
  { title: "NAME", text: (machine) => machine.name, shrinkTo: 12 },
  { title: "STATE", text: stateText, colour: (machine) => stateColour(machine, style), shrinkTo: 8 },
  { title: "IMAGE", text: imageText, shrinkTo: 9, dropOrder: 2 },
  { title: "CPUS", text: (machine) => `${machine.cpus}`, align: "right", dropOrder: 4 },
  { title: "MEMORY", text: (machine) => memoryText(machine.memoryMiB), align: "right", dropOrder: 3 },
  { title: "PORTS", text: portsText, shrinkTo: 10, dropOrder: 1 },
  { title: "AGE", text: (machine) => ageText(machine.createdAt), align: "right", dropOrder: 5 },
];

export function define(command: Command): void {
  command
    .summary("list machines")
    .description("Lists machines.")
    .option(
      "--filter <key=value>",
      "state, image, arch, autostart, from or name; repeatable, * for any text",
      several,
    )
    .addHelpText(
      "after",
      "\nExamples:\n  skep ls\n  skep ls --filter state=running --json\n  skep stop $(skep ls -q --filter 'name=test-*')",
    )
    .action(
      action(async (context, flags: { filter?: string[] }) => {
        const filters = parseFilters(flags.filter ?? []);
        const all = await (await context.client()).call("listMachines");
        const machines = all.filter((machine) => matchesFilters(machine, filters));
        if (context.options.json) {
          context.printJson(machines);
        } else if (context.options.quiet) {
          context.print(machines.map((machine) => machine.name).join("\n"));
        } else {
          const style = styleFor(process.stdout);
          context.print(
            formatTable(machines, columns(style), { width: widthOf(process.stdout), bold: style.bold }),
          );
          if (all.length === 0) context.note("no machines yet; make one: skep new NAME --start");
        }
      }),
    );
}

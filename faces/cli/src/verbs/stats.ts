import { setTimeout as sleep } from "node:timers/promises";
import type { MachineStats } from "@skep/api";
import { formatSize } from "@skep/base";
import type { Command } from "commander";
import { action } from "../context.ts";
import { memoryText } from "../machine-text.ts";
import { type Usage, usageBetween } from "../rates.ts";
import { styleFor, widthOf } from "../style.ts";
import { type Column, formatTable } from "../table.ts";

const rate = (bytes: number | null) => (bytes === null ? "-" : `${formatSize(Math.round(bytes))}/s`);

const columns: Column<Usage>[] = [
  { title: "NAME", text: (usage) => usage.name, shrinkTo: 10 },
  {
    title: "CPU",
    text: (usage) => (usage.cpuPercent === null ? "-" : `${usage.cpuPercent.toFixed(1)}%`),
    align: "right",
  },
  {
    title: "MEMORY",
    text: (usage) => `${formatSize(usage.memoryResidentBytes)} / ${memoryText(usage.memoryMiB)}`,
    align: "right",
  },
  { title: "DISK READ", text: (usage) => rate(usage.diskReadRate), align: "right", dropOrder: 2 },
  { title: "WRITTEN", text: (usage) => rate(usage.diskWrittenRate), align: "right", dropOrder: 2 },
  { title: "ON DISK", text: (usage) => formatSize(usage.diskAllocatedBytes), align: "right", dropOrder: 3 },
  { title: "NET IN", text: (usage) => rate(usage.networkReceivedRate), align: "right", dropOrder: 1 },
  { title: "OUT", text: (usage) => rate(usage.networkSentRate), align: "right", dropOrder: 1 },
];

export function define(command: Command): void {
  command
    .summary("show live use of cpu, memory, disk, network")
    .description(
      "Shows what running machines use. On a terminal it goes on, every two seconds, until Ctrl-C.\n" +
        "CPU counts one full core as 100%; MEMORY is what QEMU holds, its own share too, beside what the guest\n" +
        "was given. With --json: raw counters since each machine's start.",
    )
    .argument("[names...]", "machines; all running ones without")
    .option("--no-stream", "once")
    .addHelpText("after", "\nExamples:\n  skep stats\n  skep stats web --no-stream\n  skep stats --json")
    .action(
      action(async (context, names: string[], flags: { stream: boolean }) => {
        const client = await context.client();
        const sample = async (): Promise<MachineStats[]> =>
          names.length === 0
            ? client.call("allStats")
            : Promise.all(names.map((name) => client.call("machineStats", { path: { name } })));
        let before = await sample();
        if (context.options.json) {
          context.printJson(before);
          return;
        }
        const { stdout } = process;
        const live = flags.stream && stdout.isTTY;
        const stopped = new AbortController();
        process.once("SIGINT", () => stopped.abort());
        let drawnLines = 0;
        for (let first = true; !stopped.signal.aborted; first = false) {
          await sleep(first ? 1000 : 2000, undefined, { signal: stopped.signal }).catch(() => {});
          if (stopped.signal.aborted) break;
          const after = await sample();
          const options = { width: widthOf(stdout), bold: styleFor(stdout).bold };
          const text = formatTable(usageBetween(before, after), columns, options);
          stdout.write(`${drawnLines > 0 ? `\x1b[${drawnLines}A\x1b[J` : ""}${text}`);
          if (!live) break;
          drawnLines = text.split("\n").length - 1;
          before = after;
        }
      }),
    );
}

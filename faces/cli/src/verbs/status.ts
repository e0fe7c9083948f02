import type { Machine } from "@skep/api";
import { formatSize } from "@skep/base";
import type { Command } from "commander";
import { action } from "../context.ts";
import { suspendAfterText } from "../idle.ts";
import { checkText, policyText, restartsText } from "../liveness.ts";
import {
  ageText,
  imageText,
  memoryText,
  portsText,
  stateColour,
  stateText,
  suspensionText,
  volumesText,
} from "../machine-text.ts";
import { printable, type Style, styleFor } from "../style.ts";

function describe(machine: Machine, style: Style): string {
  const ssh = machine.ssh;
  const rows: [string, string | null][] = [
    ["image", imageText(machine)],
    ["from", machine.from],
    [
      "shape",
      `${machine.cpus} cpu${machine.cpus === 1 ? "" : "s"}, ${memoryText(machine.memoryMiB)}${machine.diskBytes === 0 ? "" : `, disk ${formatSize(machine.diskBytes)}`}, ${machine.arch}${machine.accelerator === null ? "" : `, ${machine.accelerator}`}`,
    ],
    ["volumes", machine.volumes.length === 0 ? null : volumesText(machine)],
    ["ports", machine.ports.length === 0 ? null : portsText(machine)],
    ["ssh", ssh === null ? null : `ssh -p ${ssh.port} ${ssh.user}@${ssh.host}`],
    ["telnet", machine.telnetPort === null ? null : `telnet 127.0.0.1 ${machine.telnetPort}`],
    [
      "up",
      machine.state === "running"
        ? `${ageText(machine.startedAt)}${machine.ready || machine.liveness?.state === "passing" ? "" : ", still booting"}`
        : null,
    ],
    [
      "suspended",
      machine.suspended === null
        ? null
        : `${ageText(machine.suspended.at)} ago: ${suspensionText(machine.suspended)}`,
    ],
    ["age", ageText(machine.createdAt)],
    ["autostart", machine.autostart ? "yes" : null],
    ["check", checkText(machine)],
    ["restart", policyText(machine)],
    ["restarts", restartsText(machine)],
    ["idle", suspendAfterText(machine)],
  ];
  const colour = stateColour(machine, style) ?? ((text: string) => text);
  const lines = rows.filter((row): row is [string, string] => row[1] !== null);
  return [
    `${style.bold(machine.name)}  ${colour(stateText(machine))}`,
    ...lines.map(([key, value]) => `  ${style.dim(key.padEnd(9))}  ${printable(value)}`),
  ].join("\n");
}

export function define(command: Command): void {
  command
    .summary("show what machines are doing")
    .description("Shows the state of machines; of all of them when none is named.")
    .argument("[names...]", "machines")
    .option("-a, --all", "all machines")
    .addHelpText("after", "\nExamples:\n  skep status web\n  skep status --json")
    .action(
      action(async (context, names: string[], flags: { all?: boolean }) => {
        const client = await context.client();
        const all = flags.all === true || names.length === 0;
        const chosen = await context.chosenMachines(names, all);
        const machines: Machine[] = [];
        for (const name of chosen) machines.push(await client.call("getMachine", { path: { name } }));
        if (context.options.json) {
          context.printJson(names.length === 1 ? machines[0] : machines);
        } else if (context.options.quiet) {
          context.print(machines.map((machine) => machine.state).join("\n"));
        } else {
          const style = styleFor(process.stdout);
          context.print(machines.map((machine) => describe(machine, style)).join("\n"));
          if (machines.length === 0) context.note("no machines yet; make one: skep new NAME --start");
        }
      }),
    );
}

import type { MachineEdit } from "@skep/api";
import type { Command } from "commander";
import { announce } from "../announce.ts";
import { action } from "../context.ts";
import { usage } from "../errors.ts";
import { parseSuspendAfter } from "../idle.ts";
import { addLivenessOptions, parseCheck, parseRestart } from "../liveness.ts";
import { parseCount, parseDisk, parseMemory } from "../request.ts";

interface Flags {
  cpus?: string;
  memory?: string;
  disk?: string;
  autostart?: boolean;
  telnet?: boolean;
  user?: string;
  kernelArgs?: string;
  restart?: string;
  check?: string | false;
  checkInterval?: string;
  checkTimeout?: string;
  checkFailures?: string;
  checkStart?: string;
  suspendAfter?: string;
}

export function define(command: Command): void {
  command
    .summary("change cpus, memory, disk size")
    .description(
      "Changes a machine. Disks only grow. What a running machine cannot take comes with its next start.",
    )
    .argument("<name>", "machine")
    .option("-c, --cpus <count>", "virtual CPUs")
    .option("-m, --memory <size>", "as in 2G; a bare number counts MiB")
    .option("-d, --disk <size>", "a larger disk, as in 40G")
    .option("--autostart", "start it whenever the host boots")
    .option("--no-autostart", "do not")
    .option("--telnet", "the serial console on a loopback port, too")
    .option("--no-telnet", "not")
    .option("--user <name>", "the login user of shell, exec and cp")
    .option("--kernel-args <arguments>", "added to the kernel's command line");
  addLivenessOptions(command);
  command
    .option("--no-check", "have no check")
    .option("--suspend-after <duration>", "put it to sleep once nobody has used it for so long; off: never")
    .addHelpText(
      "after",
      "\nForwards: skep port add web 8080:80\n\nExamples:\n  skep edit web -c 4 -m 8G\n  skep edit web -d 40G\n  skep edit web --restart always --check tcp:80\n  skep edit web --suspend-after 10m",
    )
    .action(
      action(async (context, name: string, flags: Flags) => {
        const body: MachineEdit = {
          ...(flags.cpus === undefined ? {} : { cpus: parseCount(flags.cpus, "cpus") }),
          ...(flags.memory === undefined ? {} : { memoryMiB: parseMemory(flags.memory) }),
          ...(flags.disk === undefined ? {} : { diskBytes: parseDisk(flags.disk) }),
          ...(flags.autostart === undefined ? {} : { autostart: flags.autostart }),
          ...(flags.telnet === undefined ? {} : { telnet: flags.telnet }),
          ...(flags.user === undefined ? {} : { user: flags.user }),
          ...(flags.kernelArgs === undefined ? {} : { kernelArguments: flags.kernelArgs }),
          ...(flags.restart === undefined ? {} : { restart: parseRestart(flags.restart) }),
          ...checkEdit(flags),
          ...(flags.suspendAfter === undefined
            ? {}
            : { suspendAfterSeconds: parseSuspendAfter(flags.suspendAfter) }),
        };
        if (Object.keys(body).length === 0) throw usage("nothing to change", "see: skep help edit");
        await context.job("editMachine", { path: { name }, body });
        await announce(context, [name], false);
      }),
    );
}

function checkEdit({ check, ...times }: Flags): Pick<MachineEdit, "check"> {
  if (check === false) return { check: null };
  const parsed = parseCheck(check === undefined ? times : { check, ...times });
  return parsed === undefined ? {} : { check: parsed };
}

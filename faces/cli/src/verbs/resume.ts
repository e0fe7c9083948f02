import type { ResumeResult } from "@skep/api";
import { parseDuration } from "@skep/base";
import type { Command } from "commander";
import { action } from "../context.ts";
import { type HookFlags, hookRequest } from "../hooks.ts";
import { secondsText } from "../machine-text.ts";
import { tellResults } from "../results.ts";

interface Flags extends HookFlags {
  all?: boolean;
  cold?: boolean;
  wait?: boolean;
  timeout?: string;
}

const texts: Record<ResumeResult["how"], (result: ResumeResult) => string> = {
  resumed: ({ machine, durationMs }) =>
    `${machine.name} goes on where it was, after ${secondsText(durationMs)}`,
  booted: ({ machine }) => `${machine.name} boots from its disk; its memory is given up`,
  running: ({ machine }) => `${machine.name} runs already`,
};

export function define(command: Command): void {
  command
    .summary("wake suspended machines")
    .description(
      "Lets suspended machines go on where they were. Where this host cannot do that, it says why; with --cold they " +
        "boot from their disks instead, as after a power cut, and what was in their memory is lost.",
    )
    .argument("[names...]", "machines")
    .option("-a, --all", "all machines that are suspended")
    .option("--no-hooks", "do not run the guest's programs for this (/etc/skep/after-resume.d)")
    .option("--hook-timeout <duration>", "how long each of them may take; default 30s")
    .option("--cold", "boot from the disk, and give up the memory")
    .option("-w, --wait", "end when ssh or the agent answers")
    .option("--timeout <duration>", "how long --wait waits, as in 90s or 5m")
    .addHelpText(
      "after",
      "\nExamples:\n  skep resume web\n  skep resume --all --wait\n  skep resume web --cold",
    )
    .action(
      action(async (context, names: string[], flags: Flags) => {
        const body = {
          ...hookRequest(flags),
          ...(flags.cold === true ? { cold: true } : {}),
          ...(flags.wait === true ? { wait: true } : {}),
          ...(flags.timeout === undefined ? {} : { waitSeconds: parseDuration(flags.timeout) / 1000 }),
        };
        const chosen = await context.chosenMachines(
          names,
          flags.all,
          (machine) => machine.state === "suspended",
        );
        const results = new Map<string, ResumeResult>();
        await context.forEach(
          chosen,
          async (name, view) => {
            const result = await context.job("resumeMachine", { path: { name }, body }, view);
            results.set(name, result as ResumeResult);
          },
          (done) => tellResults(context, done, results, (result) => texts[result.how](result)),
        );
      }),
    );
}

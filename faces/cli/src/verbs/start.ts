import type { SuspendResult } from "@skep/api";
import { parseDuration } from "@skep/base";
import type { Command } from "commander";
import { announce } from "../announce.ts";
import { attachConsole } from "../console.ts";
import { action, type Context } from "../context.ts";
import { usage } from "../errors.ts";
import { suspendedText } from "../machine-text.ts";

interface Flags {
  all?: boolean;
  cold?: boolean;
  attach?: boolean;
  wait?: boolean;
  timeout?: string;
}

export function define(command: Command): void {
  command
    .summary("start machines")
    .description(
      "Starts machines. One that runs already is left as it is; one that is suspended goes on where it was, as with " +
        "`skep resume`. With --attach your terminal is the console of one machine, and Ctrl-C suspends it.",
    )
    .argument("[names...]", "machines")
    .option("-a, --all", "all machines that do not run")
    .option(
      "--cold",
      "boot from the disk: suspended machines, whose memory is given up, and new ones, without a template",
    )
    .option("-w, --wait", "end when ssh or the agent answers")
    .option("--timeout <duration>", "how long --wait waits, as in 90s or 5m")
    .option("--attach", "stay at the console; Ctrl-C suspends the machine, Ctrl-] leaves it running")
    .addHelpText(
      "after",
      "\nExamples:\n  skep start web\n  skep start web db --wait\n  skep start web --attach\n  skep start --all",
    )
    .action(
      action(async (context, names: string[], flags: Flags) => {
        const body = {
          ...(flags.cold === true ? { cold: true } : {}),
          ...(flags.wait === true ? { wait: true } : {}),
          ...(flags.timeout === undefined ? {} : { waitSeconds: parseDuration(flags.timeout) / 1000 }),
        };
        if (flags.attach === true && (flags.all === true || names.length !== 1))
          throw usage("--attach is for one machine", "as in: skep start web --attach");
        const chosen = await context.chosenMachines(
          names,
          flags.all,
          (machine) => machine.state === "stopped" || machine.state === "suspended",
        );
        await context.forEach(
          chosen,
          (name, view) => context.job("startMachine", { path: { name }, body }, view),
          (done) => (flags.attach === true ? Promise.resolve() : announce(context, done)),
        );
        for (const name of flags.attach === true ? chosen : []) await attach(context, name);
      }),
    );
}

/** As long as the user stays; the machine may end before. */
async function attach(context: Context, name: string): Promise<void> {
  const { by } = await attachConsole(context, name, {
    mode: "write",
    replayBytes: 4096,
    lingerMs: null,
    interrupt: "suspends it",
  });
  if (by !== "interrupt") return;
  const result = (await context.job("suspendMachine", { path: { name }, body: {} })) as SuspendResult;
  if (context.options.json) context.printJson(result);
  else context.note(suspendedText(result));
}

import { parseDuration } from "@skep/base";
import { type Command, Option } from "commander";
import { attachConsole } from "../console.ts";
import { action } from "../context.ts";
import { usage } from "../errors.ts";

interface Flags {
  watch?: boolean;
  take?: boolean;
  replay: string;
  linger: string;
}

export function define(command: Command): void {
  command
    .summary("attach to the serial console")
    .description(
      "Attaches to a machine's serial console; without a name, of the only one. Ctrl-] detaches. Any number\n" +
        "may watch, one writes. In a pipe, standard input is typed and the output is printed.",
    )
    .argument("[name]", "machine")
    .option("--watch", "look on, never type")
    .option("--take", "take the keyboard over from whoever has it")
    .addOption(new Option("--replay <bytes>", "how much of what was printed before is shown").default("4096"))
    .addOption(
      new Option("--linger <duration>", "in a pipe: stay until it was silent for this long").default("2s"),
    )
    .addHelpText(
      "after",
      "\nExamples:\n  skep console web\n  skep console web --watch\n  printf 'root\\n' | skep console web --linger 5s",
    )
    .action(
      action(async (context, name: string | undefined, flags: Flags) => {
        if (flags.watch === true && flags.take === true) throw usage("--watch and --take do not go together");
        if (!/^\d{1,8}$/.test(flags.replay))
          throw usage(`--replay "${flags.replay}" is not a number of bytes`);
        const chosen = await context.onlyMachine(name);
        const mode = flags.watch === true ? "watch" : flags.take === true ? "take" : "write";
        const lingerMs = parseDuration(flags.linger);
        await attachConsole(context, chosen, { mode, replayBytes: Number(flags.replay), lingerMs });
      }),
    );
}

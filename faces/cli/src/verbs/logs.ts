import { pipeline } from "node:stream/promises";
import { parseDuration } from "@skep/base";
import type { Command } from "commander";
import { action } from "../context.ts";
import { usage } from "../errors.ts";

interface Flags {
  follow?: boolean;
  since?: string;
  lines?: string;
  qemu?: boolean;
}

export function define(command: Command): void {
  command
    .summary("show what a machine has printed")
    .description("Shows what a machine has printed on its serial console; without a name, the only one.")
    .argument("[name]", "machine")
    .option("-f, --follow", "go on with what comes")
    .option("--since <duration>", "only what is newer, as in 10m")
    .option("-n, --lines <count>", "only the last lines")
    .option("--qemu", "what QEMU itself has said")
    .addHelpText(
      "after",
      "\nExamples:\n  skep logs web\n  skep logs -f --since 10m web\n  skep logs -n 50 --qemu web",
    )
    .action(
      action(async (context, name: string | undefined, flags: Flags) => {
        if (flags.lines !== undefined && !/^\d{1,7}$/.test(flags.lines))
          throw usage(`--lines "${flags.lines}" is not a number`);
        const chosen = await context.onlyMachine(name);
        const client = await context.client();
        const stopped = new AbortController();
        const onInterrupt = () => stopped.abort();
        process.once("SIGINT", onInterrupt);
        try {
          const stream = await client.stream(
            "machineLogs",
            {
              path: { name: chosen },
              query: {
                source: flags.qemu === true ? "qemu" : "console",
                ...(flags.follow === true ? { follow: true } : {}),
                ...(flags.since === undefined ? {} : { sinceMs: Date.now() - parseDuration(flags.since) }),
                ...(flags.lines === undefined ? {} : { tailLines: Number(flags.lines) }),
              },
            },
            { signal: stopped.signal },
          );
          await pipeline(stream, process.stdout, { end: false });
        } catch (error) {
          if (!stopped.signal.aborted) throw error;
        } finally {
          process.off("SIGINT", onInterrupt);
        }
      }),
    );
}

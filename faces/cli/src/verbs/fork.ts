import type { ForkRequest, ForkResult } from "@skep/api";
import type { Command } from "commander";
import { action } from "../context.ts";
import { usage } from "../errors.ts";
import { memoryText, secondsText } from "../machine-text.ts";
import { parseCount } from "../request.ts";
import { tell } from "../results.ts";

interface Flags {
  count?: string;
  prefix?: string;
  snapshot?: string;
  identity: boolean;
  force?: boolean;
  run?: string;
  keep?: boolean;
}

export function define(command: Command): void {
  command
    .summary("copy a machine as it runs")
    .description(
      "Makes copies of a machine with its memory, in less than a second, each with a name, MAC, machine-id, ssh host " +
        "keys and random numbers of its own. The machine goes on. All copies are made, or none. With --run each copy " +
        "runs a command, and is removed when all have ended; the status is the worst of theirs.",
    )
    .argument("<name>", "the machine")
    .argument("[copy]", "the copy's name; without it NAME-1 and on")
    .option("-n, --count <count>", "how many copies")
    .option("--prefix <prefix>", "call the copies PREFIX-1 and on")
    .option("--snapshot <snapshot>", "as the machine was in a snapshot of it, which has its memory")
    .option("--no-identity", "leave the copies MAC, names, keys and random numbers of the machine")
    .option("--force", "also where this host may lack the memory")
    .option(
      "--run <command>",
      "run a line of shell on each, which finds SKEP_INDEX (1 and on) and SKEP_TOTAL set",
    )
    .option("--keep", "do not remove the copies after --run")
    .addHelpText(
      "after",
      "\nExamples:\n  skep fork web\n  skep fork web test\n  skep fork web -n 4 --prefix test\n  skep fork web -n 4 --json\n  skep fork web -n 4 --run 'make test SHARD=$SKEP_INDEX/$SKEP_TOTAL'",
    )
    .action(
      action(async (context, name: string, copy: string | undefined, flags: Flags) => {
        const body = requestOf(name, copy, flags);
        const { run, keep = false } = flags;
        if (run === undefined && keep) throw usage("--keep goes with --run", "copies without it stay");
        if (run?.trim() === "")
          throw usage("--run needs a command", `as in: skep fork ${name} -n 2 --run uptime`);
        const result = (await context.job("forkMachine", { path: { name }, body })) as ForkResult;
        if (run === undefined) {
          const names = result.copies.map(({ name: made }) => made);
          return tell(context, result, names, forkTexts(result));
        }
        const { runOnCopies } = await import("../fork-run.ts");
        return await runOnCopies(context, result, { line: run, keep });
      }),
    );
}

function requestOf(name: string, copy: string | undefined, flags: Flags): ForkRequest {
  const count = flags.count === undefined ? undefined : parseCount(flags.count, "count");
  if (copy !== undefined && (flags.prefix !== undefined || (count ?? 1) > 1)) {
    throw usage(
      "one name does for one copy",
      `name several by a prefix: skep fork ${name} -n 2 --prefix ${copy}`,
    );
  }
  return {
    ...(copy === undefined ? {} : { name: copy }),
    ...(count === undefined ? {} : { count }),
    ...(flags.prefix === undefined ? {} : { prefix: flags.prefix }),
    ...(flags.snapshot === undefined ? {} : { snapshot: flags.snapshot }),
    ...(flags.identity ? {} : { identity: false }),
    ...(flags.force === true ? { force: true } : {}),
  };
}

/** How to get into each, and what it cost the machine. */
function forkTexts({ copies, source, pauseMs, populatedMiB }: ForkResult): string[] {
  const lines = copies.map(({ name, readyMs, ssh }) => {
    const way = ssh === null ? `skep exec ${name}` : `ssh -p ${ssh.port} ${ssh.user}@${ssh.host}`;
    return `${name} is ready after ${secondsText(readyMs)}: ${way}`;
  });
  if (pauseMs === null) return lines;
  const memory = memoryText(populatedMiB);
  return [...lines, `${source} stood still for ${secondsText(pauseMs)} (${memory} of memory)`];
}

import type { Command } from "commander";
import { action, type Context } from "../context.ts";
import { type CopyOptions, copyIn, copyOut, copyStreamIn, copyStreamOut, kindHere } from "../copy.ts";
import { type CopySide, parseSide } from "../copy-path.ts";
import { fail, usage } from "../errors.ts";

export function define(command: Command): void {
  command
    .summary("copy files in and out")
    .description(
      "Copies files and directories into a machine or out of it, with modes and times. A directory goes below\n" +
        "a target that exists, and becomes the target where none does; DIR/. means its content. - is a tar stream\n" +
        "on standard input or output. The machine needs sh and tar (busybox will do).\n\n" +
        "What a machine sends is not trusted: nothing is written outside the target, no set-id bits are kept,\n" +
        "links that lead out and devices are left out (status 1). Limits: a million entries, paths of 4096 bytes.",
    )
    .argument("<paths...>", "sources and target; NAME:PATH is in a machine")
    .option("-r, --recursive", "implied")
    .option("-u, --user <name>", "as another user in the machine")
    .addHelpText(
      "after",
      "\nExamples:\n  skep cp site/ web:/srv\n  skep cp web:/var/log/syslog .\n  skep cp web:/etc - | tar t",
    )
    .action(
      action(async (context, paths: string[], flags: { user?: string }) => {
        const target = parseSide(paths.at(-1)!);
        const sources = paths.slice(0, -1).map(parseSide);
        if (sources.length === 0)
          throw usage("skep cp needs a source and a target", "as in: skep cp file web:/tmp");
        const view = context.progressView();
        try {
          return await copy(context, sources, target, { user: flags.user, view });
        } finally {
          view.close();
        }
      }),
    );
}

async function copy(
  context: Context,
  sources: CopySide[],
  target: CopySide,
  options: CopyOptions,
): Promise<number> {
  const machineSources = sources.filter((side) => side.kind === "machine");
  if (target.kind === "machine") {
    if (machineSources.length > 0) throw fail("COPY_SIDES", { why: "both sides are in machines" });
    if (sources.some((side) => side.kind === "pipe")) {
      if (sources.length > 1) throw fail("COPY_SIDES", { why: "a tar stream stands alone" });
      await copyStreamIn(context, target, options);
      return 0;
    }
    const local = sources.flatMap((side) => (side.kind === "local" ? [side.path] : []));
    await copyIn(context, local, target, options);
    return 0;
  }
  if (machineSources.length !== sources.length)
    throw fail("COPY_SIDES", { why: "no side, or not each source, is in a machine" });
  if (target.kind === "pipe") {
    if (machineSources.length > 1) throw fail("COPY_SIDES", { why: "one source makes one tar stream" });
    if (process.stdout.isTTY)
      throw usage("a tar stream on a terminal is of no use", "as in: skep cp web:/etc - | tar t");
    await copyStreamOut(context, machineSources[0]!, options);
    return 0;
  }
  let leftOut = 0;
  for (const source of machineSources) {
    const kind = await kindHere(target.path);
    leftOut += await copyOut(
      context,
      source,
      { path: target.path, kind, several: sources.length > 1 },
      options,
    );
  }
  return leftOut === 0 ? 0 : 1;
}

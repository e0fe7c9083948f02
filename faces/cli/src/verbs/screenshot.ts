import { createWriteStream } from "node:fs";
import { rename, rm } from "node:fs/promises";
import { pipeline } from "node:stream/promises";
import type { Command } from "commander";
import { action } from "../context.ts";
import { usage } from "../errors.ts";

export function define(command: Command): void {
  command
    .summary("save a picture of the screen")
    .description(
      "Saves what a running machine's screen shows, as PNG. Most servers show only the serial console.",
    )
    .argument("<name>", "machine")
    .argument("[file]", "where to (- for standard output); default NAME.png")
    .addHelpText("after", "\nExamples:\n  skep screenshot web\n  skep screenshot web - | display")
    .action(
      action(async (context, name: string, file: string | undefined) => {
        const path = file ?? `${name}.png`;
        if (path === "-" && process.stdout.isTTY)
          throw usage("a picture on a terminal is of no use", "give a file's name");
        const stream = await (await context.client()).stream("machineScreenshot", { path: { name } });
        if (path === "-") {
          await pipeline(stream, process.stdout, { end: false });
          return;
        }
        const partial = `${path}.partial`;
        try {
          await pipeline(stream, createWriteStream(partial));
          await rename(partial, path);
        } catch (error) {
          await rm(partial, { force: true });
          throw error;
        }
        if (context.options.json) context.printJson({ path });
        else context.print(path);
      }),
    );
}

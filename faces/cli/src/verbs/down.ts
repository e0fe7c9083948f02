import type { Command } from "commander";
import { action } from "../context.ts";

export function define(command: Command): void {
  command
    .summary("stop serving object storage")
    .description(
      "Stops serving object storage once the requests under way have ended (half a minute at most). What is stored stays; `skep up` serves it again.",
    )
    .addHelpText("after", "\nExamples:\n  skep down")
    .action(
      action(async (context) => {
        const storage = await (await context.client()).call("storageDown");
        if (context.options.json) context.printJson(storage);
        else context.print("object storage is no longer served");
      }),
    );
}

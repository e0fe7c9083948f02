import type { Event } from "@skep/api";
import { isErrno } from "@skep/base";
import type { Command } from "commander";
import { action } from "../context.ts";
import { printable } from "../style.ts";

function line(event: Event): string {
  const data =
    event.data === null || event.data === undefined ? "" : `  ${printable(JSON.stringify(event.data))}`;
  return `${event.time.slice(0, 19).replace("T", " ")}  ${event.type.padEnd(16)}  ${printable(event.subject)}${data}`;
}

export function define(command: Command): void {
  command
    .summary("follow what happens")
    .description(
      "Prints what happens to machines, images and jobs, as it happens, until Ctrl-C. With --json one object a line.",
    )
    .addHelpText("after", "\nExamples:\n  skep events\n  skep events --json | jq .type")
    .action(
      action(async (context) => {
        const client = await context.client();
        const stopped = new AbortController();
        process.once("SIGINT", () => stopped.abort());
        try {
          for await (const event of client.events({ signal: stopped.signal })) {
            process.stdout.write(`${context.options.json ? JSON.stringify(event) : line(event)}\n`);
          }
        } catch (error) {
          if (!stopped.signal.aborted && !isErrno(error, "ABORT_ERR")) throw error;
        }
      }),
    );
}

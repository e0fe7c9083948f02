import type { Job } from "@skep/api";
import type { Command } from "commander";
import { action } from "../context.ts";
import { ageText } from "../machine-text.ts";
import { styleFor, widthOf } from "../style.ts";
import { type Column, formatTable } from "../table.ts";

const columns: Column<Job>[] = [
  { title: "ID", text: (job) => job.id },
  { title: "KIND", text: (job) => job.kind },
  { title: "SUBJECT", text: (job) => job.subject, shrinkTo: 10 },
  { title: "STATE", text: (job) => job.state },
  { title: "AGE", text: (job) => ageText(job.createdAt), align: "right", dropOrder: 1 },
  {
    title: "NOTE",
    text: (job) => {
      if (job.state === "running") return job.progress?.phase ?? "";
      return job.state === "failed" ? (job.error?.message ?? "") : "";
    },
    shrinkTo: 10,
    dropOrder: 2,
  },
];

export function define(command: Command): void {
  command
    .summary("list and cancel running work")
    .description("Lists jobs: whatever takes skepd longer than a moment.")
    .addHelpText("after", "\nExamples:\n  skep jobs ls\n  skep jobs ls --all\n  skep jobs cancel ID");
  command
    .command("ls", { isDefault: true })
    .description("List the jobs that run; with --all, those that have ended, too.")
    .option("-a, --all", "those that have ended, too")
    .action(
      action(async (context, flags: { all?: boolean }) => {
        const query = flags.all === true ? {} : { state: "running" as const };
        const jobs = await (await context.client()).call("listJobs", { query });
        if (context.options.json) context.printJson(jobs);
        else if (context.options.quiet) context.print(jobs.map((job) => job.id).join("\n"));
        else
          context.print(
            formatTable(jobs, columns, {
              width: widthOf(process.stdout),
              bold: styleFor(process.stdout).bold,
            }),
          );
      }),
    );
  command
    .command("cancel")
    .description("Cancel jobs; each undoes what it did.")
    .argument("<ids...>", "ids of `skep jobs ls`")
    .action(
      action(async (context, ids: string[]) => {
        const client = await context.client();
        for (const id of ids) await client.call("cancelJob", { path: { id } });
        if (context.options.json) context.printJson({ cancelled: ids });
        else context.print(ids.join("\n"));
      }),
    );
}

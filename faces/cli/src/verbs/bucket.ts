import type { Bucket } from "@skep/api";
import { formatSize } from "@skep/base";
import type { Command } from "commander";
import { action, type Context } from "../context.ts";
import { printList } from "../listing.ts";
import { ageText } from "../machine-text.ts";
import type { Column } from "../table.ts";

const columns: Column<Bucket>[] = [
  { title: "BUCKET", text: (bucket) => bucket.name, shrinkTo: 16 },
  { title: "OBJECTS", text: (bucket) => `${bucket.objects}`, align: "right" },
  { title: "SIZE", text: (bucket) => formatSize(bucket.bytes), align: "right" },
  {
    title: "VERSIONS",
    text: (bucket) => (bucket.versioning === "off" ? "-" : `${bucket.versions}`),
    align: "right",
    dropOrder: 2,
  },
  { title: "UPLOADS", text: (bucket) => `${bucket.uploads || "-"}`, align: "right", dropOrder: 3 },
  { title: "ACCOUNT", text: (bucket) => bucket.account, shrinkTo: 8, dropOrder: 1 },
  { title: "AGE", text: (bucket) => ageText(bucket.createdAt), align: "right", dropOrder: 4 },
];

export async function listBuckets(context: Context): Promise<void> {
  const buckets = await (await context.client()).call("listBuckets");
  printList(context, buckets, columns, (bucket) => bucket.name);
  if (buckets.length === 0 && !context.options.json)
    context.note("no buckets yet; make one: skep bucket create NAME");
}

export function define(command: Command): void {
  command
    .summary("make, list and remove buckets")
    .description("Buckets hold objects. The list shows what each of them holds, whoever owns it.")
    .addHelpText(
      "after",
      "\nExamples:\n  skep bucket create photos\n  skep bucket ls\n  skep object rm -r photos/ && skep bucket rm photos",
    );
  command
    .command("create")
    .description("Make buckets.")
    .argument("<names...>", "3 to 63 lower-case letters, digits, dots and dashes")
    .option("--account <name>", "who owns them; default: root")
    .action(
      action(async (context, names: string[], flags: { account?: string }) => {
        const client = await context.client();
        const made: Bucket[] = [];
        for (const name of names) made.push(await client.call("createBucket", { body: { name, ...flags } }));
        if (context.options.json) context.printJson(made);
        else context.print(names.join("\n"));
      }),
    );
  command.command("ls").description("List buckets with what they hold.").action(action(listBuckets));
  command
    .command("rm")
    .description("Remove empty buckets.")
    .argument("<names...>", "buckets")
    .action(
      action(async (context, names: string[]) => {
        const client = await context.client();
        for (const bucket of names) await client.call("removeBucket", { path: { bucket } });
        if (context.options.json) context.printJson({ removed: names });
        else context.print(names.join("\n"));
      }),
    );
}

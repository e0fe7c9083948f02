import type { AccessKey, AccessKeyCreate, Scope } from "@skep/api";
import type { Command } from "commander";
import { action } from "../context.ts";
import { givenKeys } from "../endpoint.ts";
import { usage } from "../errors.ts";
import { readInput } from "../input.ts";
import { printList } from "../listing.ts";
import { ageText } from "../machine-text.ts";
import type { Column } from "../table.ts";

const columns: Column<AccessKey>[] = [
  { title: "KEY", text: (key) => key.accessKeyId },
  { title: "NAME", text: (key) => key.name || "-", shrinkTo: 10, dropOrder: 2 },
  { title: "ACCOUNT", text: (key) => key.account, shrinkTo: 8 },
  {
    title: "MAY",
    text: (key) => key.scopes.map(({ bucket, access }) => `${bucket}:${access}`).join(" ") || "all",
    shrinkTo: 10,
  },
  { title: "AGE", text: (key) => ageText(key.createdAt), align: "right", dropOrder: 3 },
  {
    title: "USED",
    text: (key) => (key.lastUsedAt === null ? "never" : `${ageText(key.lastUsedAt)} ago`),
    dropOrder: 1,
  },
];

/** `photos:read`; a bucket alone is for writing, which includes reading. */
function parseScope(value: string, before: Scope[] = []): Scope[] {
  const match = /^([^:]+)(?::(read|write))?$/.exec(value);
  if (match === null) throw usage(`--bucket "${value.slice(0, 100)}" is not NAME:read or NAME:write`);
  return [...before, { bucket: match[1]!, access: match[2] === "read" ? "read" : "write" }];
}

interface CreateFlags {
  account?: string;
  name?: string;
  bucket?: Scope[];
  accessKey?: string;
  secretKey?: string;
}

export function define(command: Command): void {
  command
    .summary("make and revoke S3 access keys")
    .description(
      "Access keys are what S3 clients sign their requests with. `skep auth` makes one and writes it into a profile of AWS tools at once.",
    )
    .addHelpText(
      "after",
      "\nExamples:\n  skep key create --name backup --bucket backups:write --bucket photos:read\n  skep key ls\n  skep key rm ID",
    );
  command
    .command("create")
    .description("Make a key; its secret is shown this once.")
    .option("--account <name>", "whose key it is; default: root")
    .option("--name <text>", "what it is for")
    .option("--bucket <name:access>", "limit it to this bucket, read or write; repeatable", parseScope)
    .option("--access-key <id>", "take over a known key: its id")
    .option("--secret-key <secret>", "and its secret; - reads it from standard input")
    .action(
      action(async (context, flags: CreateFlags) => {
        const { account, name, bucket: scopes } = flags;
        const known = await givenKeys(flags, () => readInput("-", 4096));
        const body: AccessKeyCreate = {
          ...(account === undefined ? {} : { account }),
          ...(name === undefined ? {} : { name }),
          ...(scopes === undefined ? {} : { scopes }),
          ...known,
        };
        const created = await (await context.client()).call("createKey", { body });
        const { key, secret } = created;
        if (context.options.json) return context.printJson(created);
        if (context.options.quiet) return context.print(`${key.accessKeyId} ${secret}`);
        context.print(`access key  ${key.accessKeyId}\nsecret key  ${secret}`);
        context.note("keep the secret: it is not shown again");
      }),
    );
  command
    .command("ls")
    .description("List keys; never their secrets.")
    .action(
      action(async (context) => {
        const keys = await (await context.client()).call("listKeys");
        printList(context, keys, columns, (key) => key.accessKeyId);
        if (keys.length === 0 && !context.options.json) context.note("no keys yet; make one: skep auth");
      }),
    );
  command
    .command("rm")
    .description("Revoke keys: the next request that they sign is refused.")
    .argument("<keys...>", "ids of `skep key ls`")
    .action(
      action(async (context, ids: string[]) => {
        const client = await context.client();
        for (const id of ids) await client.call("removeKey", { path: { id } });
        if (context.options.json) context.printJson({ removed: ids });
        else context.print(ids.join("\n"));
      }),
    );
}

import type { Account } from "@skep/api";
import type { Command } from "commander";
import { action } from "../context.ts";
import { printList } from "../listing.ts";
import { ageText } from "../machine-text.ts";
import type { Column } from "../table.ts";

const columns: Column<Account>[] = [
  { title: "NAME", text: (account) => account.name, shrinkTo: 12 },
  { title: "NUMBER", text: (account) => account.number },
  { title: "EMAIL", text: (account) => account.email || "-", shrinkTo: 12, dropOrder: 1 },
  { title: "AGE", text: (account) => ageText(account.createdAt), align: "right", dropOrder: 3 },
  { title: "ID", text: (account) => account.id, shrinkTo: 10, dropOrder: 2 },
];

export function define(command: Command): void {
  command
    .summary("make and remove owners of buckets and keys")
    .description(
      "Accounts own buckets, objects and keys, as AWS accounts do. The first one, root, is always there and is what you work as; more are needed only to keep users of S3 apart.",
    )
    .addHelpText(
      "after",
      "\nExamples:\n  skep account create ann --email ann@example.org\n  skep key create --account ann",
    );
  command
    .command("create")
    .description("Make an account.")
    .argument("<name>", "what others see as its display name")
    .option("--email <address>", "its email address")
    .option("--id <hex>", "its canonical id, 64 hexadecimal digits; a new one without")
    .action(
      action(async (context, name: string, flags: { email?: string; id?: string }) => {
        const { email, id } = flags;
        const body = { name, ...(email === undefined ? {} : { email }), ...(id === undefined ? {} : { id }) };
        const account = await (await context.client()).call("createAccount", { body });
        if (context.options.json) context.printJson(account);
        else context.print(account.name);
        context.note(`next: skep key create --account ${account.number}`);
      }),
    );
  command
    .command("ls")
    .description("List accounts.")
    .action(
      action(async (context) => {
        const accounts = await (await context.client()).call("listAccounts");
        printList(context, accounts, columns, (account) => account.name);
      }),
    );
  command
    .command("rm")
    .description("Remove accounts that have neither keys nor buckets.")
    .argument("<accounts...>", "name, number, email or canonical id")
    .action(
      action(async (context, accounts: string[]) => {
        const client = await context.client();
        for (const account of accounts) await client.call("removeAccount", { path: { account } });
        if (context.options.json) context.printJson({ removed: accounts });
        else context.print(accounts.join("\n"));
      }),
    );
}

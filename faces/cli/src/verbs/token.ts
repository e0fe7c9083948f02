import type { Token } from "@skep/api";
import { parseDuration } from "@skep/base";
import type { Command } from "commander";
import { action } from "../context.ts";
import { ageText } from "../machine-text.ts";
import { styleFor, widthOf } from "../style.ts";
import { type Column, formatTable } from "../table.ts";

function expiryText(expiresAt: string | null): string {
  if (expiresAt === null) return "never";
  return Date.parse(expiresAt) < Date.now() ? "expired" : expiresAt.slice(0, 16).replace("T", " ");
}

const columns: Column<Token>[] = [
  { title: "ID", text: (token) => token.id },
  { title: "NAME", text: (token) => token.name, shrinkTo: 10 },
  { title: "AGE", text: (token) => ageText(token.createdAt), align: "right", dropOrder: 1 },
  {
    title: "USED",
    text: (token) => (token.lastUsedAt === null ? "never" : `${ageText(token.lastUsedAt)} ago`),
    dropOrder: 2,
  },
  { title: "EXPIRES", text: (token) => expiryText(token.expiresAt) },
];

export function define(command: Command): void {
  command
    .summary("make and revoke access tokens")
    .description("Tokens let others drive this skepd over TCP: skep daemon start --listen ADDRESS:PORT.")
    .addHelpText(
      "after",
      "\nExamples:\n  skep token create laptop --expires 90d\n  skep token ls\n  skep token rm ID",
    );
  command
    .command("create")
    .description("Make a token; it is shown this once.")
    .argument("<name>", "whom it is for")
    .option("--expires <duration>", "how long it is good for, as in 30d; for ever without")
    .action(
      action(async (context, name: string, flags: { expires?: string }) => {
        const expires =
          flags.expires === undefined ? {} : { expiresInSeconds: parseDuration(flags.expires) / 1000 };
        const client = await context.client();
        const created = await client.call("createToken", { body: { name, ...expires } });
        if (context.options.json) context.printJson(created);
        else context.print(created.secret);
        const { listen } = await client.call("version");
        const port = listen?.split(":").at(-1) ?? "8440";
        context.note(
          `keep it: it is not shown again. On the other host: skep login https://THIS-HOST:${port} --token TOKEN`,
        );
        if (listen === null)
          context.note("skepd does not listen on TCP yet: skep daemon start --listen ADDRESS:8440");
      }),
    );
  command
    .command("ls")
    .description("List tokens.")
    .action(
      action(async (context) => {
        const tokens = await (await context.client()).call("listTokens");
        if (context.options.json) context.printJson(tokens);
        else if (context.options.quiet) context.print(tokens.map((token) => token.id).join("\n"));
        else
          context.print(
            formatTable(tokens, columns, {
              width: widthOf(process.stdout),
              bold: styleFor(process.stdout).bold,
            }),
          );
      }),
    );
  command
    .command("rm")
    .description("Revoke tokens at once.")
    .argument("<ids...>", "ids of `skep token ls`")
    .action(
      action(async (context, ids: string[]) => {
        const client = await context.client();
        for (const id of ids) await client.call("removeToken", { path: { id } });
        if (context.options.json) context.printJson({ removed: ids });
        else context.print(ids.join("\n"));
      }),
    );
}

import type { Port } from "@skep/api";
import type { Command } from "commander";
import { action, type Context } from "../context.ts";
import { fail } from "../errors.ts";
import { parsePublish } from "../ports.ts";
import { styleFor, widthOf } from "../style.ts";
import { type Column, formatTable } from "../table.ts";

const columns: Column<Port>[] = [
  {
    title: "HOST",
    text: (port) =>
      `${port.hostAddress.includes(":") ? `[${port.hostAddress}]` : port.hostAddress}:${port.hostPort}`,
  },
  { title: "GUEST", text: (port) => `${port.guestPort}`, align: "right" },
  { title: "PROTOCOL", text: (port) => port.protocol },
  { title: "CHOSEN BY", text: (port) => (port.automatic ? "skep" : "you"), dropOrder: 1 },
];

function show(context: Context, ports: Port[]): void {
  if (context.options.json) context.printJson(ports);
  else if (context.options.quiet) context.print(ports.map((port) => `${port.hostPort}`).join("\n"));
  else
    context.print(
      formatTable(ports, columns, { width: widthOf(process.stdout), bold: styleFor(process.stdout).bold }),
    );
}

export function define(command: Command): void {
  command
    .summary("forward ports of a machine")
    .description("Forwards ports of a machine, also while it runs.")
    .addHelpText(
      "after",
      "\nExamples:\n  skep port ls web\n  skep port add web 8080:80\n  skep port add web :5432\n  skep port rm web 8080",
    );
  command
    .command("ls")
    .description("List the forwarded ports of a machine.")
    .argument("<name>", "machine")
    .action(
      action(async (context, name: string) => {
        show(context, await (await context.client()).call("listPorts", { path: { name } }));
      }),
    );
  command
    .command("add")
    .description("Forward ports: [ADDRESS:]HOST:GUEST[/udp]; :80 takes a free host port.")
    .argument("<name>", "machine")
    .argument("<forwards...>", "as in 8080:80")
    .action(
      action(async (context, name: string, forwards: string[]) => {
        const client = await context.client();
        let ports: Port[] = [];
        for (const body of forwards.map(parsePublish))
          ports = await client.call("addPort", { path: { name }, body });
        show(context, ports);
      }),
    );
  command
    .command("rm")
    .description("End forwards, named by their host ports.")
    .argument("<name>", "machine")
    .argument("<ports...>", "as in 8080 or 53/udp")
    .action(
      action(async (context, name: string, values: string[]) => {
        const client = await context.client();
        for (const value of values) {
          const match = /^(\d{1,5})(?::\d{1,5})?(?:\/(tcp|udp))?$/.exec(value);
          if (match === null) throw fail("PORT_INVALID", { value, why: "give the host port" });
          const query = match[2] === "udp" ? { protocol: "udp" as const } : {};
          await client.call("removePort", { path: { name, hostPort: Number(match[1]) }, query });
        }
        show(context, await client.call("listPorts", { path: { name } }));
      }),
    );
}

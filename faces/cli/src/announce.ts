import type { Machine } from "@skep/api";
import type { Context } from "./context.ts";
import { waysIn } from "./machine-text.ts";
import { styleFor } from "./style.ts";

/**
 * Results go to standard output: the names for a script, the ways in for a person at a terminal, who
 * otherwise finds them on standard error.
 */
export async function announce(context: Context, names: readonly string[], tellHow = true): Promise<void> {
  if (context.options.quiet || (!tellHow && !context.options.json)) {
    context.print(names.join("\n"));
    return;
  }
  const client = await context.client();
  const machines: Machine[] = [];
  for (const name of names) machines.push(await client.call("getMachine", { path: { name } }));
  if (context.options.json) {
    context.printJson(machines.length === 1 ? machines[0] : machines);
    return;
  }
  const stream = process.stdout.isTTY ? process.stdout : process.stderr;
  if (!process.stdout.isTTY) context.print(names.join("\n"));
  for (const machine of machines) stream.write(waysIn(machine, styleFor(stream)));
}

import type { Context } from "./context.ts";
import { printable } from "./style.ts";

/**
 * Results of a verb on several machines: objects with --json, one alone where one was named; else the names on
 * standard output, for a script, and for a person a line on each, which a terminal shows in the names' stead.
 */
export async function tellResults<T>(
  context: Context,
  names: readonly string[],
  results: ReadonlyMap<string, T>,
  line: (result: T) => string,
): Promise<void> {
  const told = names.flatMap((name) => results.get(name) ?? []);
  if (context.options.json) {
    context.printJson(told.length === 1 ? told[0] : told);
    return;
  }
  if (context.options.quiet || !process.stdout.isTTY) context.print(names.join("\n"));
  const stream = process.stdout.isTTY ? process.stdout : process.stderr;
  if (!context.options.quiet) for (const result of told) stream.write(`${printable(line(result))}\n`);
}

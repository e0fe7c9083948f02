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
  tell(context, told.length === 1 ? told[0] : told, names, told.map(line));
}

/** `result` with --json; else the names as above, and the lines. */
export function tell(
  context: Context,
  result: unknown,
  names: readonly string[],
  lines: readonly string[],
): void {
  const { json, quiet } = context.options;
  if (json) {
    context.printJson(result);
    return;
  }
  if (quiet || !process.stdout.isTTY) context.print(names.join("\n"));
  if (quiet) return;
  const stream = process.stdout.isTTY ? process.stdout : process.stderr;
  for (const line of lines) stream.write(`${printable(line)}\n`);
}

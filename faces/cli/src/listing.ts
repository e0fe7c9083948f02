import type { Context } from "./context.ts";
import { styleFor, widthOf } from "./style.ts";
import { type Column, formatTable } from "./table.ts";

/** Prints a list as it is wanted: JSON, names, or a table. */
export function printList<Row>(
  context: Context,
  rows: readonly Row[],
  columns: readonly Column<Row>[],
  name: (row: Row) => string,
): void {
  if (context.options.json) context.printJson(rows);
  else if (context.options.quiet) context.print(rows.map(name).join("\n"));
  else {
    context.print(
      formatTable(rows, columns, { width: widthOf(process.stdout), bold: styleFor(process.stdout).bold }),
    );
  }
}

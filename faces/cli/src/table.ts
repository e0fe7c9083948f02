import { type Paint, printable } from "./style.ts";

export interface Column<Row> {
  title: string;
  text(row: Row): string;
  align?: "right";
  colour?(row: Row): Paint | undefined;
  /** On a narrow terminal the column may be cut to this width… */
  shrinkTo?: number;
  /** …and then be left out, the highest number first. */
  dropOrder?: number;
}

function cut(text: string, width: number): string {
  return text.length <= width ? text : `${text.slice(0, Math.max(0, width - 1))}…`;
}

/** Widths that fit, after shrinking; or undefined when they cannot. */
function fit(widths: number[], minimums: number[], total: number): number[] | undefined {
  const result = [...widths];
  let excess = result.reduce((sum, width) => sum + width + 2, -2) - total;
  while (excess > 0) {
    let widest = -1;
    for (let index = 0; index < result.length; index += 1) {
      if (result[index]! > minimums[index]! && (widest < 0 || result[index]! > result[widest]!))
        widest = index;
    }
    if (widest < 0) return undefined;
    result[widest]! -= 1;
    excess -= 1;
  }
  return result;
}

/**
 * Aligned columns, two spaces between, no rules. With `width` (a terminal's) long columns are cut
 * and unimportant ones left out, so that no line wraps; without, nothing is cut.
 */
export function formatTable<Row>(
  rows: readonly Row[],
  columns: readonly Column<Row>[],
  options: { width?: number | undefined; bold?: Paint } = {},
): string {
  let shown = [...columns];
  for (;;) {
    const cells = rows.map((row) => shown.map((column) => printable(column.text(row))));
    const natural = shown.map((column, index) =>
      Math.max(column.title.length, ...cells.map((line) => line[index]!.length)),
    );
    const minimums = shown.map((column, index) =>
      Math.min(natural[index]!, column.shrinkTo ?? natural[index]!),
    );
    const widths = options.width === undefined ? natural : fit(natural, minimums, options.width);
    if (widths === undefined) {
      const droppable = shown.filter((column) => column.dropOrder !== undefined);
      if (droppable.length > 0) {
        const victim = droppable.reduce((a, b) => (b.dropOrder! > a.dropOrder! ? b : a));
        shown = shown.filter((column) => column !== victim);
        continue;
      }
    }
    const final = widths ?? minimums;
    const pad = (text: string, index: number) => {
      const short = cut(text, final[index]!);
      return shown[index]!.align === "right" ? short.padStart(final[index]!) : short.padEnd(final[index]!);
    };
    const bold = options.bold ?? ((text: string) => text);
    const header = bold(
      shown
        .map((column, index) => pad(column.title, index))
        .join("  ")
        .trimEnd(),
    );
    const lines = cells.map((line, rowIndex) =>
      line
        .map((text, index) => {
          const paint = shown[index]!.colour?.(rows[rowIndex]!);
          const padded = pad(text, index);
          return paint === undefined ? padded : paint(padded);
        })
        .join("  ")
        .trimEnd(),
    );
    return `${[header, ...lines].join("\n")}\n`;
  }
}

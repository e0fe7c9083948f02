import type { WriteStream } from "node:tty";

export type Paint = (text: string) => string;

export interface Style {
  bold: Paint;
  dim: Paint;
  red: Paint;
  green: Paint;
  yellow: Paint;
}

/** Colours only on a terminal, and not where NO_COLOR asks for none (no-color.org). */
export function styleFor(stream: { isTTY?: boolean }, environment = process.env): Style {
  const on = stream.isTTY === true && !environment.NO_COLOR && environment.TERM !== "dumb";
  const paint =
    (open: number, close: number): Paint =>
    (text) =>
      on && text !== "" ? `\x1b[${open}m${text}\x1b[${close}m` : text;
  return {
    bold: paint(1, 22),
    dim: paint(2, 22),
    red: paint(31, 39),
    green: paint(32, 39),
    yellow: paint(33, 39),
  };
}

/** Terminal width in columns; undefined where output is no terminal. */
export function widthOf(stream: Partial<Pick<WriteStream, "isTTY" | "columns">>): number | undefined {
  return stream.isTTY === true ? stream.columns || 80 : undefined;
}

/** Text from a machine or a server without what could steer the user's terminal. */
export function printable(text: string): string {
  return text.replace(/[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]/g, "?");
}

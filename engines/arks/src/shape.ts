import type { JsonValue } from "./types.ts";

/** What is wrong with a value, beginning with where it is; undefined: nothing. */
export type Shape = (value: unknown, at: string) => string | undefined;

export const pattern =
  (expression: RegExp): Shape =>
  (value, at) =>
    typeof value === "string" && expression.test(value) ? undefined : `${at} is not valid`;

/** A line that can be shown: not empty, no control characters. */
export const line = (mostCharacters: number): Shape =>
  pattern(new RegExp(`^[^\\p{Cc}]{1,${mostCharacters}}$`, "u"));

export const oneOf =
  (...values: readonly unknown[]): Shape =>
  (value, at) =>
    values.includes(value)
      ? undefined
      : `${at} is not ${values.map((one) => JSON.stringify(one)).join(" or ")}`;

export const whole =
  (least: number, most: number): Shape =>
  (value, at) =>
    Number.isSafeInteger(value) && (value as number) >= least && (value as number) <= most
      ? undefined
      : `${at} is not a whole number from ${least} to ${most}`;

export const atLeastZero: Shape = (value, at) =>
  Number.isFinite(value) && (value as number) >= 0 ? undefined : `${at} is not a number from 0 on`;

export const listOf =
  (shape: Shape, most: number): Shape =>
  (value, at) => {
    if (!Array.isArray(value) || value.length > most) return `${at} is not a list of up to ${most}`;
    return first(value.map((one, index) => () => shape(one, `${at}[${index}]`)));
  };

export const orNull =
  (shape: Shape): Shape =>
  (value, at) =>
    value === null ? undefined : shape(value, at);

/** A field that may be missing. */
export const optional =
  (shape: Shape): Shape =>
  (value, at) =>
    value === undefined ? undefined : shape(value, at);

/** An object with exactly these fields. */
export const record =
  (fields: Readonly<Record<string, Shape>>): Shape =>
  (value, at) => {
    if (!isObject(value)) return `${at} is no object`;
    const unknown = Object.keys(value).find((key) => !Object.hasOwn(fields, key));
    if (unknown !== undefined) return `${at} has an unknown field ${JSON.stringify(unknown.slice(0, 80))}`;
    return first(
      Object.entries(fields).map(
        ([key, shape]) =>
          () =>
            shape(Object.hasOwn(value, key) ? value[key] : undefined, `${at}.${key}`),
      ),
    );
  };

/** Whatever JSON can say, at most so deep. */
export const json =
  (mostLevels: number): Shape =>
  (value, at) => {
    if (value === null || ["boolean", "string"].includes(typeof value) || Number.isFinite(value))
      return undefined;
    if (mostLevels === 0) return `${at} is nested too deep`;
    const inner = json(mostLevels - 1);
    if (Array.isArray(value)) return first(value.map((one, index) => () => inner(one, `${at}[${index}]`)));
    if (!isObject(value)) return `${at} is not JSON`;
    return first(
      Object.entries(value).map(
        ([key, one]) =>
          () =>
            inner(one, `${at}.${key}`),
      ),
    );
  };

function first(checks: readonly (() => string | undefined)[]): string | undefined {
  for (const check of checks) {
    const why = check();
    if (why !== undefined) return why;
  }
  return undefined;
}

export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** The one text of a value: keys in the order of their UTF-16 code units, no spaces (RFC 8785). */
export function canonicalJson(value: JsonValue): string {
  if (Array.isArray(value)) return `[${value.map(canonicalJson).join(",")}]`;
  if (value === null || typeof value !== "object") return JSON.stringify(value);
  const fields = Object.keys(value)
    .sort()
    .map((key) => `${JSON.stringify(key)}:${canonicalJson(value[key] as JsonValue)}`);
  return `{${fields.join(",")}}`;
}

import type { S3Request } from "../context.ts";
import { fail } from "../errors.ts";

/** A whole number within bounds. InvalidArgument. */
export function integerOf(request: S3Request, name: string, minimum: number, maximum: number): number {
  const text = request.query.get(name) ?? "";
  const value = Number(text);
  if (!/^\d{1,9}$/.test(text) || value < minimum || value > maximum) {
    throw fail("InvalidArgument", {
      why: `${name} must be an integer between ${minimum} and ${maximum}, inclusive`,
      ArgumentName: name,
      ArgumentValue: text,
    });
  }
  return value;
}

const maxPage = 1000;

/** How many a page may have: 1,000 without a word, and never more. */
export function pageSize(request: S3Request, name: string): number {
  const text = request.query.get(name);
  if (text === undefined || text === "") return maxPage;
  if (!/^\d{1,10}$/.test(text) || Number(text) > 2 ** 31 - 1) {
    throw fail("InvalidArgument", {
      why: /^-?\d+$/.test(text)
        ? `Argument ${name} must be an integer between 0 and 2147483647`
        : `Provided ${name} not an integer or within integer range`,
      ArgumentName: name,
      ArgumentValue: text,
    });
  }
  return Math.min(Number(text), maxPage);
}

/** How a listing writes keys: as they are, or as `encoding-type=url` wants them. */
export function keyEncoding(request: S3Request): { encode(key: string): string; type: string | undefined } {
  const type = request.query.get("encoding-type");
  if (type === undefined || type === "") return { encode: (key) => key, type: undefined };
  if (type !== "url") {
    throw fail("InvalidArgument", {
      why: "Invalid Encoding Method specified in Request",
      ArgumentName: "encoding-type",
      ArgumentValue: type,
    });
  }
  return { encode: encodeKey, type };
}

const plain = /^[A-Za-z0-9\-._*/]*$/;

/** Slashes stay; a space is `%20`, which those who know `+` read too. */
function encodeKey(key: string): string {
  return plain.test(key) ? key : encodeURIComponent(key).replaceAll("%2F", "/");
}

import { hash } from "node:crypto";
import type { RequestShape } from "./types.ts";

/**
 * The canonical request of S3: the path is encoded once and never normalised, so that `a//b/../c` is
 * the key it says. Whatever way a client escaped it, one key has one canonical path.
 */

/** Header text is bytes; Node shows them as latin1. Clients sign those bytes, or the text as UTF-8. */
export type HeaderEncoding = "latin1" | "utf8";

const plain = /^[A-Za-z0-9\-._~/]*$/;
const escaped: readonly string[] = Array.from({ length: 256 }, (_, byte) => {
  const character = String.fromCharCode(byte);
  return /[A-Za-z0-9\-._~]/.test(character)
    ? character
    : `%${byte.toString(16).toUpperCase().padStart(2, "0")}`;
});

/** Percent-encodes all but the unreserved characters of RFC 3986. */
export function encodeUri(bytes: Uint8Array | string, slashes: "keep" | "encode" = "encode"): string {
  let text = "";
  for (const byte of typeof bytes === "string" ? Buffer.from(bytes) : bytes) {
    text += byte === 0x2f && slashes === "keep" ? "/" : (escaped[byte] as string);
  }
  return text;
}

/** The bytes of percent-encoded text; what is no valid escape stands for itself. */
export function decodeUri(text: string, plus: "space" | "literal" = "literal"): Buffer {
  const source = plus === "space" ? text.replaceAll("+", " ") : text;
  const bytes = Buffer.from(source, /[^\x00-\xff]/.test(source) ? "utf8" : "latin1");
  let length = 0;
  for (let at = 0; at < bytes.length; at += 1) {
    const value = bytes[at] === 0x25 ? (digit(bytes[at + 1]) << 4) | digit(bytes[at + 2]) : -1;
    if (value >= 0) at += 2;
    bytes[length] = value >= 0 ? value : (bytes[at] as number);
    length += 1;
  }
  return bytes.subarray(0, length);
}

/** The value of a hexadecimal digit, and a negative number for any other byte. */
function digit(byte = 0): number {
  if (byte >= 0x30 && byte <= 0x39) return byte - 0x30;
  const lower = byte | 0x20;
  return lower >= 0x61 && lower <= 0x66 ? lower - 0x57 : -1;
}

/** Path and query of a request line's target, which may name the whole URL (as to a proxy). */
export function splitTarget(target: string): { path: string; query: string } {
  const local = target.startsWith("/") ? target : target.replace(/^[a-z]+:\/\/[^/?]*/i, "");
  const mark = local.indexOf("?");
  const path = mark < 0 ? local : local.slice(0, mark);
  return { path: path === "" ? "/" : path, query: mark < 0 ? "" : local.slice(mark + 1) };
}

/** Names and values, canonically encoded, in the order in which they came. */
export function queryPairs(query: string): [name: string, value: string][] {
  if (query === "") return [];
  return query
    .split("&")
    .filter((part) => part !== "")
    .map((part) => {
      const equals = part.indexOf("=");
      const name = equals < 0 ? part : part.slice(0, equals);
      const value = equals < 0 ? "" : part.slice(equals + 1);
      return [recode(name), recode(value)];
    });
}

function recode(text: string): string {
  return plain.test(text) && !text.includes("/") ? text : encodeUri(decodeUri(text, "space"));
}

function canonicalPath(path: string): string {
  return plain.test(path) ? path : encodeUri(decodeUri(path), "keep");
}

function canonicalQuery(pairs: readonly (readonly [string, string])[]): string {
  if (pairs.length < 2) return pairs.map(([name, value]) => `${name}=${value}`).join("");
  // By name, then by value: encoded text is ASCII, and no character of it sorts before "=" but escapes.
  return [...pairs]
    .sort(([a, x], [b, y]) => (a < b ? -1 : a > b ? 1 : x < y ? -1 : x > y ? 1 : 0))
    .map(([name, value]) => `${name}=${value}`)
    .join("&");
}

/** A header's value as it is signed: white space folded, lists joined. */
export function headerValue(value: string | readonly string[] | undefined): string {
  if (value === undefined) return "";
  return typeof value === "string" ? fold(value) : value.map(fold).join(",");
}

/** Not trim(): of UTF-8 shown as latin1, that would cut bytes off. */
function fold(text: string): string {
  const single = / {2}|\t/.test(text) ? text.replace(/[ \t]+/g, " ") : text;
  const start = single.startsWith(" ") ? 1 : 0;
  return single.slice(start, single.length > start && single.endsWith(" ") ? -1 : undefined);
}

export interface Canonical {
  request: RequestShape;
  /** In lower case and in order. */
  signedHeaders: readonly string[];
  /** As it stands in the last line of the canonical request. */
  payload: string;
  /** Without X-Amz-Signature. */
  query: readonly (readonly [string, string])[];
  path: string;
}

/** The SHA-256 of the canonical request, in hexadecimal. */
export function canonicalDigest(canonical: Canonical, encoding: HeaderEncoding): string {
  const { request, signedHeaders } = canonical;
  let headers = "";
  for (const name of signedHeaders) headers += `${name}:${headerValue(request.headers[name])}\n`;
  const text = `${request.method}\n${canonicalPath(canonical.path)}\n${canonicalQuery(canonical.query)}\n${headers}\n${signedHeaders.join(";")}\n${canonical.payload}`;
  return hash("sha256", encoding === "latin1" ? Buffer.from(text, "latin1") : text, "hex");
}

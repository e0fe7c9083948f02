import type { IncomingMessage } from "node:http";
import type { Query } from "./context.ts";
import { fail } from "./errors.ts";
import type { Operation } from "./operation.ts";
import { operations } from "./operations.ts";

/** What a request is about, from its host and target. */
export interface Route {
  level: Operation["level"];
  bucketName: string;
  key: string;
  query: Query;
  /** The host names the bucket. */
  hosted: boolean;
}

const noQuery: Query = new Map();
const maxKeyBytes = 1024;

/**
 * Path-style (`/BUCKET/KEY`), or virtual-host-style under the domain (`BUCKET.DOMAIN`, `/KEY`). Nothing
 * of a key is normalised: `a//b/../c` is what it says.
 */
export function routeOf(req: IncomingMessage, domain: string | undefined): Route {
  const { path, query: text } = splitTarget(req.url ?? "/");
  const query = text === "" ? noQuery : parseQuery(text);
  const hosted = domain === undefined ? undefined : bucketOfHost(req.headers.host, domain);
  if (hosted !== undefined) return route(hosted, decodePath(path.slice(1)), query, true);
  const slash = path.indexOf("/", 1);
  if (slash < 0) return route(decodePath(path.slice(1)), "", query);
  return route(decodePath(path.slice(1, slash)), decodePath(path.slice(slash + 1)), query);
}

function route(bucketName: string, key: string, query: Query, hosted = false): Route {
  if (bucketName === "") {
    if (key !== "") throw fail("InvalidBucketName", { BucketName: "" });
    return { level: "service", bucketName, key, query, hosted };
  }
  checkKey(key);
  return { level: key === "" ? "bucket" : "object", bucketName, key, query, hosted };
}

/** A key has at most 1,024 bytes of UTF-8. */
export function checkKey(key: string): void {
  if (key.length <= maxKeyBytes / 3) return;
  const size = Buffer.byteLength(key);
  if (size > maxKeyBytes) throw fail("KeyTooLongError", { MaxSizeAllowed: maxKeyBytes, Size: size });
}

function splitTarget(target: string): { path: string; query: string } {
  const local = target.startsWith("/") ? target : target.replace(/^https?:\/\/[^/?]*/i, "");
  if (!local.startsWith("/")) return { path: "/", query: local.startsWith("?") ? local.slice(1) : "" };
  const mark = local.indexOf("?");
  return mark < 0 ? { path: local, query: "" } : { path: local.slice(0, mark), query: local.slice(mark + 1) };
}

/** The bucket that a Host header names under the domain; undefined for any other host. */
function bucketOfHost(host: string | undefined, domain: string): string | undefined {
  if (host === undefined) return undefined;
  const name = host.replace(/:\d+$/, "").toLowerCase();
  return name.endsWith(`.${domain}`) ? name.slice(0, -domain.length - 1) : undefined;
}

const plain = /^[A-Za-z0-9\-._~/!$&'()*+,;=:@]*$/;

/** Percent-decoded as UTF-8, strictly. */
function decodePath(text: string): string {
  return plain.test(text) ? text : decode(text);
}

function decode(text: string): string {
  if (/[^\x00-\x7f]/.test(text)) throw fail("InvalidURI");
  try {
    return decodeURIComponent(text);
  } catch (error) {
    throw fail("InvalidURI", {}, { cause: error });
  }
}

/** Of a repeated parameter the first counts, as with S3. */
function parseQuery(text: string): Query {
  const query = new Map<string, string>();
  for (const part of text.split("&")) {
    if (part === "") continue;
    const equals = part.indexOf("=");
    const name = decodeQuery(equals < 0 ? part : part.slice(0, equals));
    if (!query.has(name)) query.set(name, equals < 0 ? "" : decodeQuery(part.slice(equals + 1)));
  }
  return query;
}

function decodeQuery(text: string): string {
  return /[%+]/.test(text) || /[^\x00-\x7f]/.test(text) ? decode(text.replaceAll("+", " ")) : text;
}

type Rows = Map<string, Operation[]>;

const rows: Rows = Map.groupBy(operations, (row) => `${row.level} ${row.method}`) as Rows;
const selectors = new Set(operations.flatMap((row) => row.select ?? []));

/**
 * The operation that a request selects. NotImplemented for sub-resources or combinations of them that
 * no operation has, MethodNotAllowed where only other methods have them.
 */
export function selectOperation(
  route: Route,
  method: string,
  headers: Readonly<Record<string, unknown>>,
): Operation {
  const candidates = rows.get(`${route.level} ${method}`) ?? [];
  const names: string[] = [];
  for (const [name, value] of route.query) {
    if (selectors.has(name)) names.push(name);
    // A name alone is how sub-resources are written; what S3 may add is none of our operations.
    else if (value === "" && !plainParameters.has(name)) throw notImplemented(`The sub-resource ${name}`);
  }
  let fallback: Operation | undefined;
  for (const row of candidates) {
    if (!selects(row, names)) continue;
    if (row.header === undefined) fallback ??= row;
    else if (headers[row.header] !== undefined) return row;
  }
  if (fallback !== undefined) return fallback;
  const elsewhere = operations.some((row) => row.level === route.level && selects(row, names));
  if (elsewhere) throw fail("MethodNotAllowed", { Method: method, ResourceType: names[0] ?? route.level });
  throw notImplemented(`${method} with ${names.join(" and ")}`);
}

/** Parameters that may come without a value. */
const plainParameters = new Set([
  "prefix",
  "delimiter",
  "marker",
  "key-marker",
  "version-id-marker",
  "upload-id-marker",
  "versionId",
  "start-after",
  "continuation-token",
  "encoding-type",
  "max-keys",
  "max-uploads",
  "max-parts",
  "max-buckets",
  "part-number-marker",
  "bucket-region",
  "fetch-owner",
  "allow-unordered",
  "id",
  "x-id",
]);

function selects(row: Operation, names: readonly string[]): boolean {
  const select = row.select ?? [];
  const meant =
    row.parameters === undefined ? names : names.filter((name) => !row.parameters?.includes(name));
  return meant.length === select.length && meant.every((name) => select.includes(name));
}

function notImplemented(what: string) {
  return fail("NotImplemented", { what });
}

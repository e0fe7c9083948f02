import type { StatementSync } from "node:sqlite";
import { keyBytes } from "../index/apply.ts";
import {
  type IndexedVersion,
  type IndexQueries,
  textOf,
  uploadOf,
  versionColumns,
  versionOf,
} from "../index/queries.ts";
import { nullVersion, sequenceOf, type UploadRow } from "../index/rows.ts";
import type { ListRequest, VersionListRequest } from "../types.ts";
import { type ListedRow, listedKey, type Page, type UploadListRequest } from "./queries.ts";

const defaultLimit = 1000;

/** Where in a bucket's keys a listing is: from this key on, or after it. */
interface Cursor {
  key: Buffer;
  inclusive: boolean;
}

interface Walk<R, T> {
  prefix: string;
  delimiter: string | undefined;
  /** Keys, and prefixes made of them, after this one. */
  after: string | undefined;
  limit: number;
  /** Rows from the cursor on, in order; without end, or more than a page. */
  rows(cursor: Cursor): Iterator<R>;
  keyOf(row: R): string;
  /** A row as it is listed. */
  convert(row: R): T;
  idOf(row: T): string;
}

type Row = Record<string, unknown>;

const keyOfRow = (row: Row) => textOf(row.key);

/** The smallest key after all that begin with these bytes; undefined where there is none. */
function afterAll(prefix: Buffer): Buffer | undefined {
  for (let end = prefix.length; end > 0; end -= 1) {
    const last = prefix[end - 1] as number;
    if (last === 0xff) continue;
    const next = Buffer.from(prefix.subarray(0, end));
    next[end - 1] = last + 1;
    return next;
  }
  return undefined;
}

/** The prefix that a key is grouped under, or undefined where it stands for itself. */
function groupOf(key: string, prefix: string, delimiter: string | undefined): string | undefined {
  if (delimiter === undefined || delimiter === "" || !key.startsWith(prefix)) return undefined;
  const at = key.indexOf(delimiter, prefix.length);
  return at === -1 ? undefined : key.slice(0, at + delimiter.length);
}

/** One page. A group of keys costs one seek, however many keys it has. */
function walk<R, T>(request: Walk<R, T>): Page<T> {
  const { prefix, delimiter, after, limit } = request;
  const page: Page<T> = { rows: [], prefixes: [] };
  let cursor = firstCursor(prefix, delimiter, after);
  if (limit <= 0) return page;
  let last: { key: string; id?: string } | undefined;
  while (cursor !== undefined) {
    const rows = request.rows(cursor);
    cursor = undefined;
    try {
      for (let row = rows.next(); row.done !== true; row = rows.next()) {
        const key = request.keyOf(row.value);
        if (!key.startsWith(prefix)) return page;
        if (page.rows.length + page.prefixes.length === limit) {
          if (last !== undefined) page.next = last;
          return page;
        }
        const group = groupOf(key, prefix, delimiter);
        if (group !== undefined) {
          page.prefixes.push(group);
          last = { key: group };
          const next = afterAll(keyBytes(group));
          if (next === undefined) return page;
          cursor = { key: next, inclusive: true };
          break;
        }
        const converted = request.convert(row.value);
        page.rows.push(converted);
        last = { key, id: request.idOf(converted) };
      }
    } finally {
      rows.return?.();
    }
  }
  return page;
}

function firstCursor(
  prefix: string,
  delimiter: string | undefined,
  after: string | undefined,
): Cursor | undefined {
  const start: Cursor = { key: keyBytes(prefix), inclusive: true };
  if (after === undefined) return start;
  const group = groupOf(after, prefix, delimiter);
  if (group !== undefined) {
    // All of that group was listed with the prefix, or lies before where the caller goes on.
    const next = afterAll(keyBytes(group));
    return next === undefined ? undefined : later(start, { key: next, inclusive: true });
  }
  return later(start, { key: keyBytes(after), inclusive: false });
}

function later(one: Cursor, other: Cursor): Cursor {
  const order = one.key.compare(other.key);
  if (order === 0) return one.inclusive ? other : one;
  return order < 0 ? other : one;
}

function iterate(
  queries: IndexQueries,
  sql: { before: string; order: string },
  bucket: number,
  cursor: Cursor,
): Iterator<Record<string, unknown>> {
  const comparison = cursor.inclusive ? ">=" : ">";
  const statement: StatementSync = queries.statement(`${sql.before} AND key${comparison}? ${sql.order}`);
  return statement.iterate(bucket, cursor.key) as Iterator<Record<string, unknown>>;
}

/** Latest versions that are no delete markers. Light rows, for this is what clients ask most. */
export function listObjects(
  queries: IndexQueries,
  bucket: number,
  request: Omit<ListRequest, "signal">,
): Page<ListedRow> {
  const { startAfter, continuation, delimiter, limit = defaultLimit } = request;
  const isFlat = delimiter === undefined || delimiter === "";
  const statements = {
    from: queries.statement(listedSql(">="), asArrays),
    after: queries.statement(listedSql(">"), asArrays),
  };
  return walk<ListedRow, ListedRow>({
    prefix: request.prefix ?? "",
    delimiter,
    after: continuation ?? startAfter,
    limit,
    rows({ inclusive, key }) {
      const statement = inclusive ? statements.from : statements.after;
      // A page and one more at once; where keys are grouped, one at a time.
      const rows = isFlat
        ? statement.all(bucket, key, limit + 1)[Symbol.iterator]()
        : statement.iterate(bucket, key, -1);
      return rows as Iterator<unknown> as Iterator<ListedRow>;
    },
    keyOf: listedKey,
    convert: (row) => row,
    idOf: (row) => row[2],
  });
}

const asArrays = (statement: StatementSync) => statement.setReturnArrays(true);

/** SQLite gives text only up to a NUL: a key that has one comes as bytes as well. */
function listedSql(comparison: string): string {
  return `SELECT CAST(key AS TEXT), CASE WHEN instr(key, x'00') THEN key END, version, size, etag, modified,
      owner, attributes
    FROM versions INDEXED BY listed WHERE bucket=? AND listed=1 AND key${comparison}? ORDER BY key LIMIT ?`;
}

/** All versions, the newest of a key first. */
export function listVersions(
  queries: IndexQueries,
  bucket: number,
  request: VersionListRequest,
): Page<IndexedVersion> {
  const { keyMarker, versionMarker } = request;
  const prefix = request.prefix ?? "";
  const resumed =
    isWithin(keyMarker, request) && versionMarker !== undefined && versionMarker !== ""
      ? markerSequence(queries, bucket, keyMarker, versionMarker)
      : undefined;
  let previous: string | undefined = resumed === undefined ? undefined : keyMarker;
  const before = `SELECT ${versionColumns} FROM versions WHERE bucket=?`;
  const order = "ORDER BY key, sequence DESC";
  const page = walk<Row, IndexedVersion>({
    prefix,
    delimiter: request.delimiter,
    after: keyMarker,
    limit: request.limit ?? defaultLimit,
    rows: rowsAfterMarker(queries, bucket, {
      before,
      order,
      rest:
        resumed === undefined
          ? undefined
          : { and: "sequence<?", key: keyMarker as string, sequence: resumed },
    }),
    keyOf: keyOfRow,
    convert: (row) => {
      const key = textOf(row.key);
      const isLatest = key !== previous;
      previous = key;
      return versionOf(bucket, row, isLatest);
    },
    idOf: (row) => row.versionId,
  });
  return page;
}

/** Whether a marker names a key of the listing that stands for itself, so that its own rows may go on. */
function isWithin(
  marker: string | undefined,
  { prefix = "", delimiter }: { prefix?: string; delimiter?: string },
): marker is string {
  if (marker === undefined) return false;
  return marker.startsWith(prefix) && groupOf(marker, prefix, delimiter) === undefined;
}

/** Rows from a cursor on; the first time, what is left of the marker's own key comes before them. */
function rowsAfterMarker(
  queries: IndexQueries,
  bucket: number,
  sql: {
    before: string;
    order: string;
    rest: { and: string; key: string; sequence: number } | undefined;
  },
): (cursor: Cursor) => Iterator<Row> {
  let { rest } = sql;
  return (cursor) => {
    const others = iterate(queries, sql, bucket, cursor);
    if (rest === undefined) return others;
    const { and, key, sequence } = rest;
    rest = undefined;
    const own = queries
      .statement(`${sql.before} AND key=? AND ${and} ${sql.order}`)
      .iterate(bucket, keyBytes(key), sequence);
    return joined(own as Iterator<Row>, others);
  };
}

function* joined<T>(one: Iterator<T>, other: Iterator<T>): Iterator<T> {
  for (const rows of [one, other]) {
    for (let row = rows.next(); row.done !== true; row = rows.next()) yield row.value;
  }
}

/** The place of a version in the order, also when it was removed since. */
function markerSequence(
  queries: IndexQueries,
  bucket: number,
  key: string,
  versionId: string,
): number | undefined {
  if (versionId !== nullVersion) return sequenceOf(versionId);
  return queries.version(bucket, key, versionId)?.sequence;
}

export function listUploads(
  queries: IndexQueries,
  bucket: number,
  request: UploadListRequest,
): Page<UploadRow> {
  const { keyMarker, uploadMarker } = request;
  const prefix = request.prefix ?? "";
  const sequence =
    isWithin(keyMarker, request) && uploadMarker !== undefined ? sequenceOf(uploadMarker) : undefined;
  const before = "SELECT * FROM uploads WHERE bucket=?";
  const order = "ORDER BY key, sequence";
  return walk<Row, UploadRow>({
    prefix,
    delimiter: request.delimiter,
    after: keyMarker,
    limit: request.limit ?? defaultLimit,
    rows: rowsAfterMarker(queries, bucket, {
      before,
      order,
      rest: sequence === undefined ? undefined : { and: "sequence>?", key: keyMarker as string, sequence },
    }),
    keyOf: keyOfRow,
    convert: uploadOf,
    idOf: (row) => row.id,
  });
}

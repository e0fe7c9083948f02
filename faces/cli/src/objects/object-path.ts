import { fail } from "../errors.ts";

export interface ObjectPath {
  bucket: string;
  /** "" for the bucket itself. */
  key: string;
}

/** `BUCKET/KEY`, also as `s3://BUCKET/KEY`. The key is what stands behind the first slash, as it is. */
export function parseObjectPath(text: string): ObjectPath {
  const match = /^(?:s3:\/\/)?([^/]*)(?:\/(.*))?$/s.exec(text);
  const [, bucket = "", key = ""] = match ?? [];
  if (!/^[A-Za-z0-9][A-Za-z0-9._-]{1,254}$/.test(bucket)) {
    throw fail("OBJECT_PATH", { path: text.slice(0, 200), why: "does not begin with a bucket's name" });
  }
  return { bucket, key };
}

/** One object: a key is needed. */
export function parseOneObject(text: string): ObjectPath {
  const path = parseObjectPath(text);
  if (path.key === "") throw fail("OBJECT_PATH", { path: text.slice(0, 200), why: "names no object" });
  return path;
}

/**
 * Where below a directory an object goes; undefined for a key that would lead out of it, or that no file
 * can be named after.
 */
export function relativeFile(key: string, prefix: string): string | undefined {
  const rest = key.slice(prefix.length);
  const parts = rest.split("/");
  const last = parts.at(-1) === "" ? parts.slice(0, -1) : parts;
  const good = last.every((part) => part !== "" && part !== "." && part !== ".." && !part.includes("\0"));
  return last.length > 0 && good ? rest : undefined;
}

import { lstat, mkdir, readdir, stat } from "node:fs/promises";
import { basename, dirname, join, sep } from "node:path";
import type { ApiClient, StoredObject } from "@skep/api";
import { formatSize, isErrno, toSkepError } from "@skep/base";
import { type Context, interruptible } from "../context.ts";
import { formatError } from "../error-text.ts";
import { fail } from "../errors.ts";

/** One object that goes one way. */
export interface Transfer {
  /** What is told of it. */
  name: string;
  sizeBytes?: number;
  run(meter: Meter): Promise<void>;
}

/** What a transfer tells while it runs. */
export interface Meter {
  signal: AbortSignal;
  onSize(bytes: number): void;
  onBytes(bytes: number): void;
}

const filesAtOnce = 4;

/**
 * Runs transfers, a few at a time, under one progress line. One that fails keeps no other from going on;
 * at the end each failure is told. Ctrl-C ends all.
 */
export async function runTransfers(
  context: Context,
  phase: string,
  transfers: AsyncIterable<Transfer> | Iterable<Transfer>,
): Promise<string[]> {
  const view = context.progressView();
  const done: string[] = [];
  const failures: unknown[] = [];
  let moved = 0;
  let total = 0;
  let known = true;
  const report = () => view.update({ phase, done: moved, unit: "bytes", ...(known ? { total } : {}) });
  try {
    await interruptible(
      async (signal) => {
        const source = inOrder(transfers);
        let asking: Promise<unknown> = Promise.resolve();
        const worker = async () => {
          for (;;) {
            signal.throwIfAborted();
            // One asks at a time: the source may be pages that come one after another.
            const mine = asking.then(() => source.next());
            asking = mine.catch(() => {});
            const { value: transfer, done: over } = await mine;
            if (over === true || transfer === undefined) return;
            if (transfer.sizeBytes !== undefined) total += transfer.sizeBytes;
            const sized = transfer.sizeBytes !== undefined;
            known &&= sized;
            try {
              await transfer.run({
                signal,
                onSize(bytes) {
                  if (!sized) total += bytes;
                  known = true;
                },
                onBytes(bytes) {
                  moved += bytes;
                  report();
                },
              });
              done.push(transfer.name);
            } catch (error) {
              if (signal.aborted) throw error;
              failures.push(error);
            }
          }
        };
        report();
        const results = await Promise.allSettled(Array.from({ length: filesAtOnce }, worker));
        for (const result of results) if (result.status === "rejected") throw result.reason;
      },
      () => view.note("cancelling"),
    );
  } finally {
    view.close();
  }
  if (failures.length === 0) return done;
  if (failures.length === 1 && done.length === 0) throw failures[0];
  const { json = false, verbose = false } = context.options;
  for (const error of failures) process.stderr.write(formatError(toSkepError(error), { json, verbose }));
  const all = done.length + failures.length;
  throw fail("TRANSFER_FAILED", { count: failures.length, total: all }, { cause: failures[0] });
}

async function* inOrder<T>(items: AsyncIterable<T> | Iterable<T>): AsyncGenerator<T, undefined> {
  yield* items;
  return undefined;
}

/** All objects below a prefix, page by page. */
export async function* objectsBelow(
  client: ApiClient,
  bucket: string,
  prefix: string,
): AsyncGenerator<StoredObject> {
  let continuation: string | undefined;
  for (;;) {
    const page = await client.call("listObjects", {
      path: { bucket },
      query: { prefix, ...(continuation === undefined ? {} : { continuation }) },
    });
    yield* page.objects;
    if (page.next === null) return;
    continuation = page.next;
  }
}

export interface LocalFile {
  path: string;
  /** Below the directory that was named, with slashes. */
  relative: string;
  sizeBytes: number;
}

/** The regular files below a directory, linked ones included; linked directories are not entered. */
export async function* filesBelow(
  directory: string,
  passedOver: (path: string, why: string) => void,
  below = "",
): AsyncGenerator<LocalFile> {
  const entries = await readdir(join(directory, below), { withFileTypes: true });
  for (const entry of entries.sort((one, other) => (one.name < other.name ? -1 : 1))) {
    const relative = below === "" ? entry.name : `${below}/${entry.name}`;
    const path = join(directory, relative);
    if (entry.isDirectory()) {
      yield* filesBelow(directory, passedOver, relative);
      continue;
    }
    const found = await stat(path).catch(() => undefined);
    if (found?.isFile() === true) yield { path, relative, sizeBytes: found.size };
    else passedOver(path, found === undefined ? "a link that leads nowhere" : "no regular file");
  }
}

/** The file that an object is to become: in the directory that is named, or under the name itself. */
export async function targetFile(target: string, key: string): Promise<string> {
  if (target.endsWith(sep) || target === "." || target === ".." || (await isDirectory(target))) {
    const name = basename(key);
    if (name === "" || name === "." || name === "..")
      throw fail("COPY_TARGET", { path: target, why: "is a directory", hint: "name a file" });
    return join(target, name);
  }
  return target;
}

export async function isDirectory(path: string): Promise<boolean> {
  try {
    return (await stat(path)).isDirectory();
  } catch (error) {
    if (isErrno(error, "ENOENT") || isErrno(error, "ENOTDIR")) return false;
    throw error;
  }
}

/** Makes the directories that lead to a file below `root`; a link among them could lead elsewhere. */
export async function makeDirectories(root: string, file: string): Promise<void> {
  const between = dirname(file.slice(root.length + 1));
  let path = root;
  for (const part of between === "." ? [] : between.split("/")) {
    path = join(path, part);
    await mkdir(path).catch((error: unknown) => {
      if (!isErrno(error, "EEXIST")) throw error;
    });
    if (!(await lstat(path)).isDirectory()) {
      throw fail("COPY_TARGET", {
        path,
        why: "is not a directory",
        hint: "move it away, or get into another one",
      });
    }
  }
}

export function counted(names: readonly string[], verb: string, sizeBytes?: number): string {
  const size = sizeBytes === undefined ? "" : ` (${formatSize(sizeBytes)})`;
  return `${names.length} object${names.length === 1 ? "" : "s"} ${verb}${size}`;
}

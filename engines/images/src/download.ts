import { createHash } from "node:crypto";
import { type FileHandle, mkdir, open, rm, stat } from "node:fs/promises";
import type { IncomingMessage } from "node:http";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { formatSize, readFileIfThere, SkepError, type Work, writeFileAtomic } from "@skep/base";
import { fail } from "./errors.ts";
import { httpGet, publicUrl } from "./http.ts";

export interface DownloadOptions {
  /** Where partial downloads are kept. */
  directory: string;
  label: string;
  limitBytes: number;
  answerTimeoutMs: number;
  stallTimeoutMs: number;
  /** How often a broken transfer is taken up again without a byte of progress between. */
  attempts: number;
  retryDelayMs: number;
}

/** Which version of the file the partial bytes belong to (RFC 9110, If-Range needs a strong validator). */
interface PartialState {
  validator: string | null;
  total: number | null;
}

export function partialPath(directory: string, url: URL): string {
  return join(directory, `${createHash("sha256").update(url.href).digest("hex").slice(0, 40)}.part`);
}

/**
 * Downloads into a file that survives failure, so that the next try goes on where this one ended.
 * Returns its path; the caller checks the digest and removes it (`forget`).
 */
export async function download(url: URL, options: DownloadOptions, work: Work): Promise<string> {
  await mkdir(options.directory, { recursive: true, mode: 0o700 });
  const path = partialPath(options.directory, url);
  let left = options.attempts;
  for (;;) {
    const before = await sizeOf(path);
    try {
      await transfer(url, path, options, work);
      return path;
    } catch (error) {
      work.signal.throwIfAborted();
      if (error instanceof SkepError && error.code === "DOWNLOAD_TOO_LARGE") await forget(path);
      if (error instanceof SkepError) throw error;
      left = (await sizeOf(path)) > before ? options.attempts : left - 1;
      const why = (error as Error).message || String(error);
      if (left <= 0) throw fail("DOWNLOAD_FAILED", { url: publicUrl(url), why }, { cause: error });
      await sleep(options.retryDelayMs, undefined, { signal: work.signal });
    }
  }
}

/** Drops a download and what is known of it. */
export async function forget(path: string): Promise<void> {
  await rm(path, { force: true });
  await rm(`${path}.json`, { force: true });
}

/** One request: the rest of the file, or all of it where the server has another version or no ranges. */
async function transfer(url: URL, path: string, options: DownloadOptions, work: Work): Promise<void> {
  const state = await readState(path);
  const have = state.validator === null ? 0 : await sizeOf(path);
  if (have > 0 && have === state.total) return;
  const headers: Record<string, string> =
    have > 0 && state.validator !== null ? { range: `bytes=${have}-`, "if-range": state.validator } : {};
  const { signal } = work;
  const response = await httpGet(url, { ...options, signal, headers });
  try {
    const plan = planOf(response, have, url);
    if (plan.again) {
      await forget(path);
      throw new Error("the partial download fits no longer");
    }
    const { offset, total } = plan;
    if ((total ?? 0) > options.limitBytes) throw tooLarge(url, options);
    await writeFileAtomic(`${path}.json`, JSON.stringify({ validator: validatorOf(response), total }));
    const file = await open(path, offset === 0 ? "w" : "r+");
    try {
      await receive(response, file, offset, total, url, options, work);
    } finally {
      await file.close();
    }
  } finally {
    response.destroy();
  }
}

interface Plan {
  offset: number;
  total: number | null;
  again: boolean;
}

function planOf(response: IncomingMessage, have: number, url: URL): Plan {
  const status = response.statusCode ?? 0;
  if (status === 200) return { offset: 0, total: lengthOf(response), again: false };
  if (status === 206 && have > 0) {
    const range = /^bytes (\d+)-(\d+)\/(\d+|\*)$/.exec(response.headers["content-range"] ?? "");
    const fits = range !== null && Number(range[1]) === have;
    const total = range === null || range[3] === "*" ? null : Number(range[3]);
    return { offset: have, total, again: !fits };
  }
  if (status === 416) return { offset: 0, total: null, again: true };
  const why = status === 404 ? "the server has no such file (404)" : `the server answers ${status}`;
  if (status === 429 || status >= 500) throw new Error(why); // may pass: try again
  throw fail("DOWNLOAD_FAILED", { url: publicUrl(url), why });
}

async function receive(
  response: IncomingMessage,
  file: FileHandle,
  offset: number,
  total: number | null,
  url: URL,
  options: DownloadOptions,
  work: Work,
): Promise<void> {
  let position = offset;
  const phase = `downloading ${options.label}`;
  let reported = -1;
  for await (const part of response as AsyncIterable<Buffer>) {
    if (position + part.length > options.limitBytes) throw tooLarge(url, options);
    await file.write(part, 0, part.length, position);
    position += part.length;
    if (position - reported < 1 << 20 && reported >= 0) continue;
    reported = position;
    work.report({ phase, done: position, ...(total === null ? {} : { total }), unit: "bytes" });
  }
  work.signal.throwIfAborted();
  if (total !== null && position !== total) {
    throw new Error(`the connection ended after ${position} of ${total} bytes`);
  }
  if (!response.complete) throw new Error("the connection ended early");
  await file.sync();
  work.report({ phase, done: position, total: position, unit: "bytes" });
}

function tooLarge(url: URL, options: DownloadOptions): SkepError {
  return fail("DOWNLOAD_TOO_LARGE", { url: publicUrl(url), limit: formatSize(options.limitBytes) });
}

function lengthOf(response: IncomingMessage): number | null {
  const text = response.headers["content-length"];
  return text !== undefined && /^\d{1,15}$/.test(text) ? Number(text) : null;
}

function validatorOf(response: IncomingMessage): string | null {
  const etag = response.headers.etag;
  if (etag !== undefined && !etag.startsWith("W/")) return etag;
  return response.headers["last-modified"] ?? null;
}

async function readState(path: string): Promise<PartialState> {
  const nothing = { validator: null, total: null };
  const text = await readFileIfThere(`${path}.json`);
  if (text === undefined) return nothing;
  try {
    const value = JSON.parse(text) as Partial<PartialState>;
    const validator =
      typeof value.validator === "string" && !/[\r\n]/.test(value.validator) ? value.validator : null;
    return { validator, total: typeof value.total === "number" ? value.total : null };
  } catch {
    return nothing; // cut off by a crash: begin anew
  }
}

async function sizeOf(path: string): Promise<number> {
  return await stat(path).then(
    (stats) => stats.size,
    () => 0,
  );
}

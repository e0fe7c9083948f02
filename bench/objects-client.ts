/** The client's process: is told what to do by its parent, does it, and says how long it took. */
import { hash, randomBytes } from "node:crypto";
import { SigningKeys } from "@skep/sigv4";
import { type Call, call, type Endpoint, Line } from "./objects-wire.ts";

export type Task =
  | { kind: "put" | "get" | "delete"; count: number; concurrency: number; sizeBytes: number; prefix: string }
  | { kind: "list"; pages: number; prefix: string; limit: number; startAfter?: string }
  | { kind: "stream put" | "stream get"; key: string; sizeBytes: number };

export interface Job {
  endpoint: Endpoint;
  task: Task;
}

export type Outcome = { ms: number } | { error: string };

const keys = new SigningKeys();
const expected: Record<string, number[]> = { put: [200], get: [200], delete: [204, 200] };

async function perform({ endpoint, task }: Job): Promise<number> {
  if (task.kind === "list") return list(endpoint, task);
  if ("key" in task) return stream(endpoint, task);
  const { kind, count, concurrency, sizeBytes, prefix } = task;
  const bytes = randomBytes(kind === "put" ? sizeBytes : 0);
  const body = kind === "put" ? { bytes, sizeBytes, sha256: hash("sha256", bytes, "hex") } : undefined;
  const method = kind.toUpperCase();
  const calls = Array.from({ length: count }, (_, n) =>
    call(endpoint, method, `${prefix}${String(n).padStart(8, "0")}`, keys, body),
  );
  return inTurns(endpoint, calls, concurrency, (status, length) => {
    if (!expected[kind]?.includes(status)) throw new Error(`${kind} answered ${status}`);
    if (kind === "get" && length !== sizeBytes) throw new Error(`get gave ${length} bytes`);
  });
}

/** Milliseconds for all calls, spread over so many connections. */
async function inTurns(
  endpoint: Endpoint,
  calls: Call[],
  concurrency: number,
  check: (status: number, sizeBytes: number) => void,
): Promise<number> {
  const lines = await Promise.all(Array.from({ length: concurrency }, () => Line.open(endpoint)));
  let next = 0;
  const start = performance.now();
  await Promise.all(
    lines.map(async (line) => {
      while (next < calls.length) {
        const one = calls[next] as Call;
        next += 1;
        const { status, sizeBytes } = await line.send(one);
        check(status, sizeBytes);
      }
    }),
  );
  const ms = performance.now() - start;
  for (const line of lines) line.close();
  return ms;
}

/** Milliseconds a page, of the first pages from `startAfter` on. */
async function list(endpoint: Endpoint, task: Extract<Task, { kind: "list" }>): Promise<number> {
  const line = await Line.open(endpoint);
  const { pages, prefix, limit, startAfter } = task;
  let after = startAfter;
  let ms = 0;
  try {
    for (let page = 0; page < pages; page += 1) {
      const from = after === undefined ? "" : `&start-after=${encodeURIComponent(after)}`;
      const target = `?list-type=2&prefix=${encodeURIComponent(prefix)}&max-keys=${limit}${from}`;
      const one = call(endpoint, "GET", target, keys);
      const start = performance.now();
      const { status, text } = await line.send(one, true);
      ms += performance.now() - start;
      const names = [...text.matchAll(/<Key>([^<]*)<\/Key>/g)].map((match) => match[1]);
      if (status !== 200 || names.length === 0)
        throw new Error(`list answered ${status}, ${names.length} keys`);
      after = names.at(-1);
    }
  } finally {
    line.close();
  }
  return ms / pages;
}

async function stream(
  endpoint: Endpoint,
  task: Extract<Task, { kind: "stream put" | "stream get" }>,
): Promise<number> {
  const { kind, key, sizeBytes } = task;
  const line = await Line.open(endpoint);
  try {
    const isPut = kind === "stream put";
    const body = isPut ? { sizeBytes, sha256: "UNSIGNED-PAYLOAD" } : undefined;
    const one = call(endpoint, isPut ? "PUT" : "GET", key, keys, body);
    const start = performance.now();
    const answer = await (isPut ? line.sendStream(one.head, sizeBytes) : line.send(one));
    const ms = performance.now() - start;
    if (answer.status !== 200) throw new Error(`${kind} answered ${answer.status}`);
    if (!isPut && answer.sizeBytes !== sizeBytes) throw new Error(`${kind} gave ${answer.sizeBytes} bytes`);
    return ms;
  } finally {
    line.close();
  }
}

process.on("message", (job: Job) => {
  perform(job).then(
    (ms) => process.send?.({ ms } satisfies Outcome),
    (error: unknown) => process.send?.({ error: String(error) } satisfies Outcome),
  );
});

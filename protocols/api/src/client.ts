import type { IncomingMessage } from "node:http";
import { type Progress, SkepError } from "@skep/base";
import type { WebSocket } from "ws";
import type { Connection } from "./connection.ts";
import { fail } from "./errors.ts";
import { type Event, type Job, type Operations, operations } from "./generated/operations.ts";
import { EventStreamParser, type StreamMessage } from "./sse.ts";
import { connectionError, openTransport, send, type Transport } from "./transport.ts";

type Id = keyof Operations;
type Kind<K extends Id> = (typeof operations)[K]["kind"];
type OfKind<T extends string> = { [K in Id]: Kind<K> extends T ? K : never }[Id];
/** Operations that answer with JSON. */
export type CallId = OfKind<"json">;
/** Operations that start a job. */
export type JobId = { [K in CallId]: Operations[K]["response"] extends Job ? K : never }[CallId];
/** Operations that answer with raw bytes: logs, screenshot, ssh config. */
export type StreamId = OfKind<"raw">;
/** Operations that are WebSockets. */
export type SocketId = OfKind<"socket">;

type Params<K extends Id> = Operations[K]["params"];
interface CallOptions {
  signal?: AbortSignal;
}
/** `params` may be left out where the operation needs none. */
type Args<K extends Id, O = CallOptions> =
  Record<never, never> extends Params<K>
    ? [params?: Params<K>, options?: O]
    : [params: Params<K>, options?: O];

export interface JobOptions {
  onProgress?: (progress: Progress) => void;
  onNote?: (note: string) => void;
  /** Cancels the job; the call ends when the server has undone it. */
  signal?: AbortSignal;
}

interface AnyParams {
  path?: Record<string, unknown>;
  query?: Record<string, unknown>;
  body?: unknown;
}

/**
 * The control API's client. Failures are SkepErrors: the server's own code, message, hint and
 * status, or those of `apiErrors`.
 *
 * ```ts
 * await using client = new ApiClient({ socket: controlSocket(skepHome()) });
 * const machines = await client.call("listMachines", { query: { state: "running" } });
 * await client.job("startMachine", { path: { name: "web" }, body: {} }, { onProgress: console.log });
 * ```
 */
export class ApiClient implements AsyncDisposable {
  readonly #connection: Connection;
  #transport: Promise<Transport> | undefined;

  constructor(connection: Connection) {
    this.#connection = connection;
  }

  /** One request with a JSON answer; undefined where the answer has no body. */
  async call<K extends CallId>(id: K, ...args: Args<K>): Promise<Operations[K]["response"]> {
    const [params, options] = args;
    const answer = await this.#send(id, params as AnyParams, options?.signal);
    const text = await readText(answer, await this.#open());
    try {
      return (text === "" ? undefined : JSON.parse(text)) as Operations[K]["response"];
    } catch (error) {
      const { where } = await this.#open();
      throw fail("ANSWER_INVALID", { where, why: "its answer is not JSON" }, { cause: error });
    }
  }

  /** One request with a raw answer, to be read or destroyed by the caller. */
  async stream<K extends StreamId>(id: K, ...args: Args<K>): Promise<IncomingMessage> {
    const [params, options] = args;
    return this.#send(id, params as AnyParams, options?.signal);
  }

  /** Starts a job and follows it to its end; resolves with its result, rejects with its error. */
  async job<K extends JobId>(id: K, ...args: Args<K, JobOptions>): Promise<unknown> {
    const [params, options] = args;
    options?.signal?.throwIfAborted();
    const answer = await this.#send(id, params as AnyParams, undefined);
    const job = JSON.parse(await readText(answer, await this.#open())) as Job;
    return this.follow(job.id, options);
  }

  /** Follows a job that runs already; comes back after a lost connection or a restart of skepd. */
  async follow(id: string, options: JobOptions = {}): Promise<unknown> {
    const { signal, onProgress, onNote } = options;
    let notes = 0;
    let cancelling: Promise<unknown> | undefined;
    const cancel = () => {
      // It may have ended in the meantime: what counts is how the job itself ends.
      cancelling = this.call("cancelJob", { path: { id } }).catch(() => undefined);
    };
    if (signal?.aborted) cancel();
    signal?.addEventListener("abort", cancel, { once: true });
    try {
      let failures = 0;
      for (;;) {
        try {
          for await (const job of this.#jobStates(id)) {
            failures = 0;
            for (const note of job.notes.slice(notes)) onNote?.(note);
            notes = Math.max(notes, job.notes.length);
            if (job.progress !== null && job.state === "running") onProgress?.(job.progress);
            if (job.state !== "running") return outcome(job);
          }
        } catch (error) {
          const gone = error instanceof SkepError && error.code.startsWith("CONNECTION_");
          if (!gone || failures === 20) throw error;
          if ("revive" in this.#connection) await this.#connection.revive?.();
        }
        failures += 1;
        if (failures > 20) {
          throw fail("CONNECTION_LOST", {
            where: (await this.#open()).where,
            why: "the job's events end early",
          });
        }
        await new Promise((resolve) => setTimeout(resolve, Math.min(50 * 2 ** failures, 2000)));
      }
    } finally {
      signal?.removeEventListener("abort", cancel);
      await cancelling;
    }
  }

  async *#jobStates(id: string): AsyncGenerator<Job> {
    for await (const message of this.#messages("jobEvents", { path: { id } }, {})) {
      yield JSON.parse(message.data) as Job;
    }
  }

  /**
   * What happens on the server, from now on or after `lastEventId`. Ends when the connection does;
   * an event of type `events.lost` says that older ones are no longer kept.
   */
  async *events(options: { lastEventId?: number; signal?: AbortSignal } = {}): AsyncGenerator<Event> {
    const headers: Record<string, string> =
      options.lastEventId === undefined ? {} : { "last-event-id": String(options.lastEventId) };
    for await (const message of this.#messages("events", {}, headers, options.signal)) {
      yield JSON.parse(message.data) as Event;
    }
  }

  async *#messages(
    id: Id,
    params: AnyParams,
    headers: Record<string, string>,
    signal?: AbortSignal,
  ): AsyncGenerator<StreamMessage> {
    const answer = await this.#send(id, params, signal, { accept: "text/event-stream", ...headers });
    const parser = new EventStreamParser();
    try {
      for await (const piece of answer) yield* parser.push(piece as Uint8Array);
    } catch (error) {
      if (signal?.aborted) return;
      throw connectionError(error, (await this.#open()).where, true);
    } finally {
      answer.destroy();
    }
  }

  /**
   * Opens a WebSocket: `socket("machineConsole", { path: { name } })`, or a path with its query.
   * Resolves when it is open; a refusal comes out as the server's error.
   */
  async socket<K extends SocketId>(id: K, ...args: Args<K>): Promise<WebSocket>;
  async socket(path: `/${string}`, options?: CallOptions): Promise<WebSocket>;
  async socket(target: string, ...args: unknown[]): Promise<WebSocket> {
    const isPath = target.startsWith("/");
    const path = isPath ? target : pathOf(target as Id, (args[0] ?? {}) as AnyParams);
    const options = (isPath ? args[0] : args[1]) as CallOptions | undefined;
    const transport = await this.#open(options?.signal);
    const { WebSocket } = await import("ws");
    const { ca, servername } = transport.options;
    const socket = new WebSocket(transport.socketUrl(path), {
      headers: transport.headers,
      perMessageDeflate: false,
      maxPayload: 16 * 1024 * 1024,
      ...(ca === undefined ? {} : { ca, servername, rejectUnauthorized: true, minVersion: "TLSv1.2" }),
    } as ConstructorParameters<typeof WebSocket>[2]);
    return new Promise((resolve, reject) => {
      const refuse = (error: unknown) => {
        options?.signal?.removeEventListener("abort", onAbort);
        reject(connectionError(error, transport.where));
        socket.terminate();
      };
      const onAbort = () => refuse(options?.signal?.reason);
      options?.signal?.addEventListener("abort", onAbort, { once: true });
      socket.on("error", refuse);
      socket.once("unexpected-response", (_request, answer) => {
        readText(answer, transport).then(
          () =>
            refuse(fail("SOCKET_REFUSED", { where: transport.where, why: `status ${answer.statusCode}` })),
          refuse,
        );
      });
      socket.once("open", () => {
        options?.signal?.removeEventListener("abort", onAbort);
        socket.off("error", refuse);
        // The first frames may be here already: they wait until the caller has its listeners in place.
        socket.pause();
        setImmediate(() => socket.resume());
        resolve(socket);
      });
    });
  }

  async #send(
    id: Id,
    params: AnyParams = {},
    signal?: AbortSignal,
    headers?: Record<string, string>,
  ): Promise<IncomingMessage> {
    const transport = await this.#open(signal);
    const answer = await send(transport, {
      method: operations[id].method,
      path: pathOf(id, params),
      body: params.body,
      headers,
      signal,
    });
    if ((answer.statusCode ?? 0) >= 300) await readText(answer, transport);
    return answer;
  }

  #open(signal?: AbortSignal): Promise<Transport> {
    const opening = this.#transport ?? openTransport(this.#connection, signal);
    this.#transport = opening;
    opening.catch(() => {
      if (this.#transport === opening) this.#transport = undefined;
    });
    return opening;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const transport = await this.#transport?.catch(() => undefined);
    transport?.close();
  }
}

/** Path and query of an operation, encoded. */
export function pathOf(id: Id, params: AnyParams): string {
  const path = operations[id].path.replace(/\{(\w+)\}/g, (_, name: string) =>
    encodeURIComponent(String(params.path?.[name] ?? "")),
  );
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(params.query ?? {})) {
    for (const one of Array.isArray(value) ? value : [value]) {
      if (one !== undefined) query.append(name, String(one));
    }
  }
  const text = query.toString();
  return text === "" ? path : `${path}?${text}`;
}

function outcome(job: Job): unknown {
  if (job.state === "succeeded") return job.result;
  const { code, message, hint } = job.error ?? { code: "CANCELLED", message: "cancelled" };
  throw new SkepError(code, message, {
    ...(hint === undefined ? {} : { hint }),
    status: job.state === "cancelled" ? 499 : 500,
  });
}

/** The whole body; an answer of status 300 and above becomes the error it describes. */
async function readText(answer: IncomingMessage, transport: Transport): Promise<string> {
  const pieces: Buffer[] = [];
  try {
    for await (const piece of answer) pieces.push(piece as Buffer);
  } catch (error) {
    throw connectionError(error, transport.where, true);
  }
  const text = Buffer.concat(pieces).toString("utf8");
  const status = answer.statusCode ?? 0;
  if (status < 300) return text;
  let error: { code?: unknown; message?: unknown; hint?: unknown } | undefined;
  try {
    error = (JSON.parse(text) as { error?: typeof error }).error;
  } catch {
    error = undefined;
  }
  if (typeof error?.code !== "string" || typeof error.message !== "string") {
    throw fail("ANSWER_INVALID", { where: transport.where, why: `status ${status} without an explanation` });
  }
  throw new SkepError(error.code, error.message, {
    status,
    ...(typeof error.hint === "string" ? { hint: error.hint } : {}),
  });
}

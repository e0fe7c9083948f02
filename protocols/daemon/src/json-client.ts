import { type IncomingMessage, request } from "node:http";
import { createInterface } from "node:readline";
import { SkepError } from "@skep/base";
import { fail } from "./errors.ts";

export interface JsonCall {
  method: "GET" | "POST" | "PUT" | "DELETE";
  path: string;
  body?: unknown;
  signal?: AbortSignal | undefined;
}

/** Asks another daemon of this home. Its own errors come out as they are; DAEMON_UNREACHABLE without it. */
export async function callJson<T>(socketPath: string, call: JsonCall): Promise<T> {
  const answer = await open(socketPath, call);
  let text: string;
  try {
    text = await textOf(answer);
  } catch (error) {
    call.signal?.throwIfAborted();
    throw fail("DAEMON_UNREACHABLE", { socket: socketPath, why: "it ended" }, { cause: error });
  }
  if (answer.statusCode === 200 && !answer.headers["content-type"]?.startsWith("application/json")) {
    return text as T;
  }
  const value = text === "" ? undefined : (JSON.parse(text) as T);
  if ((answer.statusCode ?? 500) < 300) return value as T;
  throw errorOf((value as { error: Refused }).error, answer.statusCode ?? 500);
}

interface Refused {
  code: string;
  message: string;
  hint?: string;
  status?: number;
}

function errorOf({ code, message, hint }: Refused, status: number): SkepError {
  return new SkepError(code, message, { status, ...(hint === undefined ? {} : { hint }) });
}

async function refusal(answer: IncomingMessage): Promise<SkepError> {
  const { error } = JSON.parse(await textOf(answer)) as { error: Refused };
  return errorOf(error, answer.statusCode ?? 500);
}

async function textOf(answer: IncomingMessage): Promise<string> {
  const pieces: Buffer[] = [];
  for await (const piece of answer) pieces.push(piece as Buffer);
  return Buffer.concat(pieces).toString("utf8");
}

/**
 * As `callJson`, of a route that answers with many values, each given when it comes. Leaving the loop, and
 * the signal, end the call.
 */
export async function* streamJson<T>(socketPath: string, call: JsonCall): AsyncGenerator<T, void, void> {
  const answer = await open(socketPath, call);
  try {
    if (answer.statusCode !== 200) throw await refusal(answer);
    for await (const line of createInterface({ input: answer, crlfDelay: Number.POSITIVE_INFINITY })) {
      const told = JSON.parse(line) as { item?: T; error?: Refused; end?: true };
      if (told.end === true) return;
      if (told.error !== undefined) throw errorOf(told.error, told.error.status ?? 500);
      yield told.item as T;
    }
    throw new Error("it ended");
  } catch (error) {
    call.signal?.throwIfAborted();
    if (error instanceof SkepError) throw error;
    const why = (error as Error).message;
    throw fail("DAEMON_UNREACHABLE", { socket: socketPath, why }, { cause: error });
  } finally {
    answer.destroy();
  }
}

/** Resolves when the daemon behind the socket ends, or when the signal is aborted. */
export async function watchEnd(socketPath: string, signal: AbortSignal): Promise<void> {
  try {
    const answer = await open(socketPath, { method: "GET", path: "/watch", signal });
    for await (const _ of answer); // nothing comes
  } catch {
    // it ends in an error when the process was killed: that is what was waited for
  }
}

function open(socketPath: string, { method, path, body, signal }: JsonCall): Promise<IncomingMessage> {
  const payload = body === undefined ? undefined : Buffer.from(JSON.stringify(body));
  const headers =
    payload === undefined ? {} : { "content-type": "application/json", "content-length": payload.length };
  return new Promise((resolve, reject) => {
    const outgoing = request(
      { socketPath, method, path, headers, agent: false, ...(signal === undefined ? {} : { signal }) },
      resolve,
    );
    outgoing.once("error", (error) => {
      if (signal?.aborted) reject(signal.reason);
      else reject(fail("DAEMON_UNREACHABLE", { socket: socketPath, why: error.message }, { cause: error }));
    });
    outgoing.end(payload);
  });
}

import { type IncomingMessage, request } from "node:http";
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
  const pieces: Buffer[] = [];
  try {
    for await (const piece of answer) pieces.push(piece as Buffer);
  } catch (error) {
    throw fail("DAEMON_UNREACHABLE", { socket: socketPath, why: "it ended" }, { cause: error });
  }
  const text = Buffer.concat(pieces).toString("utf8");
  if (answer.statusCode === 200 && !answer.headers["content-type"]?.startsWith("application/json")) {
    return text as T;
  }
  const value = text === "" ? undefined : (JSON.parse(text) as T);
  if ((answer.statusCode ?? 500) < 300) return value as T;
  const { code, message, hint } = (value as { error: { code: string; message: string; hint?: string } })
    .error;
  throw new SkepError(code, message, {
    status: answer.statusCode ?? 500,
    ...(hint === undefined ? {} : { hint }),
  });
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

import { SkepError } from "@skep/base";
import type { BatchResult } from "../commit/committer.ts";
import type { Operation } from "../commit/operations.ts";
import type { Query } from "../read/queries.ts";
import type { Backend } from "./backend.ts";
import type { OpenOptions } from "./store-files.ts";

/** What a thread is given when it starts. */
export interface ThreadData {
  directory: string;
  options: OpenOptions;
}

/** To a thread. It answers requests in the order in which they came. */
export type Request =
  | { operations: Operation[] }
  | { queries: Query[] }
  | { digests: DigestRequest[] }
  | { close: true };

/** The next bytes of a blob, in shared memory, or its end. */
export interface DigestRequest {
  id: number;
  step: Uint8Array | "finish" | "abandon";
}

/** From a thread. */
export type Reply =
  | { opened: Backend["opened"] }
  | { failed: ErrorMessage }
  | { batch: Omit<BatchResult, "answers">; answers: AnswerMessage[] }
  | { found: AnswerMessage[] }
  | { digested: AnswerMessage[] }
  | { log: string };

export type AnswerMessage = { value: unknown } | { error: ErrorMessage };

/** An error as it passes between threads, which take only plain data. */
export interface ErrorMessage {
  code: string;
  message: string;
  hint: string | undefined;
  status: number;
  details: unknown;
}

export function errorMessage(error: SkepError & { details?: unknown }): ErrorMessage {
  const { code, message, hint, status, details } = error;
  return { code, message, hint, status, details };
}

export function errorFrom({ code, message, hint, status, details }: ErrorMessage): SkepError {
  const error = new SkepError(code, message, { status, ...(hint === undefined ? {} : { hint }) });
  return details === undefined ? error : Object.assign(error, { details });
}

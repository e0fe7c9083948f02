import { randomUUID } from "node:crypto";
import type { Socket } from "node:net";
import { KeyedMutex } from "@skep/base";
import { cancelled, fail } from "./errors.ts";
import { AnswerDecoder, encodeMessage, type HelperStep, type StepResult } from "./helper-codec.ts";
import { connectUnix, reasonOf } from "./socket.ts";

export interface HelperCallOptions {
  signal?: AbortSignal | undefined;
  /** Default 10 000; includes the wait for earlier exchanges and connecting. */
  timeoutMs?: number;
}

const defaultTimeoutMs = 10_000;

interface Connection {
  socket: Socket;
  /** Takes what arrives; absent while nothing was asked. */
  receive: ((bytes: Buffer) => void) | undefined;
  lose: ((why: string, cause?: unknown) => void) | undefined;
  open: boolean;
}

/**
 * skep's helper inside one machine, over the host's end of its virtio port. One exchange at a time: a
 * message of steps, an answer that says what became of each. What is written before the guest runs,
 * it reads as soon as it does. QEMU lets one client connect at a time.
 *
 * Every method fails with HELPER_SILENT (nobody answered: no helper in this guest, no such socket, QEMU
 * gone, too late), HELPER_REFUSED (nothing was done) or CANCELLED. After each but a refusal the
 * connection is dropped, and with it what the guest has not read yet; what it has read may still be done.
 */
export class GuestHelper implements AsyncDisposable {
  readonly path: string;
  readonly #queue = new KeyedMutex();
  #connection: Connection | undefined;

  constructor(socketPath: string) {
    this.path = socketPath;
  }

  /** Connects, so that an exchange loses no time with it: for a guest that is about to go on. */
  async connect(options: HelperCallOptions = {}): Promise<void> {
    await this.#inTurn(options, (deadline) => this.#connected(deadline));
  }

  /** Has the steps done, in order; a failed one does not stop those after it. One result a step. */
  exchange(steps: readonly HelperStep[], options: HelperCallOptions = {}): Promise<StepResult[]> {
    return this.#inTurn(options, async (deadline) => {
      const id = randomUUID();
      const message = encodeMessage(id, steps);
      if ("wrong" in message) throw fail("HELPER_REFUSED", { why: message.wrong });
      const decoder = new AnswerDecoder(id, steps);
      const answer = await this.#ask(await this.#connected(deadline), message, decoder, deadline);
      if ("refused" in answer) throw fail("HELPER_REFUSED", { why: answer.refused });
      return answer.results;
    });
  }

  /** The verbs that this guest's helper knows. */
  async ping(options: HelperCallOptions = {}): Promise<Set<string>> {
    const [result] = await this.exchange([{ verb: "ping-1" }], { timeoutMs: 5000, ...options });
    return new Set(result?.why.split(" "));
  }

  /** Lets go of the socket; the next exchange connects again. */
  disconnect(): void {
    const connection = this.#connection;
    this.#connection = undefined;
    connection?.lose?.("the connection was closed here");
    connection?.socket.destroy();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.disconnect();
  }

  /** Whoever gives up while exchanges before his own are waited for does not disturb them. */
  #inTurn<T>(options: HelperCallOptions, work: (deadline: Deadline) => Promise<T>): Promise<T> {
    const { signal, timeoutMs = defaultTimeoutMs } = options;
    if (signal?.aborted) return Promise.reject(cancelled(signal));
    return new Promise((resolve, reject) => {
      let begun = false;
      const over = new AbortController();
      const deadline: Deadline = { signal: over.signal, at: Date.now() + timeoutMs };
      const giveUp = (error: Error) => {
        over.abort(error);
        if (!begun) reject(error);
      };
      const onAbort = () => giveUp(cancelled(signal as AbortSignal));
      const timer = setTimeout(
        () => giveUp(fail("HELPER_SILENT", { path: this.path, why: `no answer within ${timeoutMs} ms` })),
        timeoutMs,
      );
      signal?.addEventListener("abort", onAbort, { once: true });
      this.#queue
        .run("exchanges", async () => {
          if (over.signal.aborted) return;
          begun = true;
          resolve(await work(deadline));
        })
        .catch((error: unknown) => {
          if ((error as { code?: string }).code !== "HELPER_REFUSED") this.disconnect();
          reject(error);
        })
        .finally(() => {
          clearTimeout(timer);
          signal?.removeEventListener("abort", onAbort);
        });
    });
  }

  async #connected({ signal, at }: Deadline): Promise<Connection> {
    const present = this.#connection;
    if (present?.open) return present;
    let socket: Socket;
    try {
      socket = await connectUnix(this.path, Math.max(1, at - Date.now()), signal);
    } catch (error) {
      if (signal.aborted) throw signal.reason;
      throw this.#silent(reasonOf(error), error);
    }
    const connection: Connection = { socket, receive: undefined, lose: undefined, open: true };
    const lose = (why: string, cause?: unknown) => {
      connection.open = false;
      connection.lose?.(why, cause);
      socket.destroy();
    };
    socket.on("data", (bytes: Buffer) => connection.receive?.(bytes));
    socket.on("error", (error) => lose(reasonOf(error), error));
    socket.on("close", () => lose("QEMU has closed the connection"));
    this.#connection = connection;
    return connection;
  }

  #ask(connection: Connection, message: Buffer, decoder: AnswerDecoder, { signal }: Deadline) {
    return new Promise<NonNullable<ReturnType<AnswerDecoder["push"]>>>((resolve, reject) => {
      const settle = () => {
        signal.removeEventListener("abort", onAbort);
        connection.receive = undefined;
        connection.lose = undefined;
      };
      const stop = (error: unknown) => {
        settle();
        reject(error);
      };
      const onAbort = () => stop(signal.reason);
      if (signal.aborted) return onAbort();
      signal.addEventListener("abort", onAbort, { once: true });
      connection.lose = (why, cause) => stop(this.#silent(why, cause));
      connection.receive = (bytes) => {
        try {
          const answer = decoder.push(bytes);
          if (answer === undefined) return;
          settle();
          resolve(answer);
        } catch (error) {
          stop(this.#silent(`it sent something that is not the protocol: ${reasonOf(error)}`, error));
        }
      };
      connection.socket.write(message);
    });
  }

  #silent(why: string, cause?: unknown): Error {
    return fail("HELPER_SILENT", { path: this.path, why }, { cause });
  }
}

interface Deadline {
  /** Aborted, with the error to throw, when the time is over or the caller gives up. */
  signal: AbortSignal;
  at: number;
}

import type { Socket } from "node:net";
import { KeyedMutex } from "@skep/base";
import { delimiter, encodeLine, errorOf, type JsonObject, LineDecoder } from "./codec.ts";
import { cancelled, fail, QmpError } from "./errors.ts";
import { connectUnix, reasonOf } from "./socket.ts";

export interface AgentCallOptions {
  signal?: AbortSignal | undefined;
  /** Default 10 000; includes the wait for earlier calls, connecting and synchronising. */
  timeoutMs?: number;
}

/** The agent reads files in pieces of at most 48 MiB; skep asks for far less. */
const maxLineBytes = 8 * 1024 * 1024;
const defaultTimeoutMs = 10_000;

interface Connection {
  socket: Socket;
  decoder: LineDecoder;
  /** Takes the next object that arrives; absent while nobody asked. */
  receive: ((message: JsonObject) => void) | undefined;
  lose: ((error: Error) => void) | undefined;
  /** Why it cannot be used any more. */
  lost: Error | undefined;
}

/**
 * One question, one answer over the agent's socket. Answers carry no ids, so after anything that went
 * wrong the connection is dropped, and the next call starts a new one with guest-sync-delimited, which
 * skips whatever late answer still comes.
 */
export class AgentChannel {
  readonly path: string;
  readonly #queue = new KeyedMutex();
  #connection: Connection | undefined;
  #lastSync = Math.floor(Math.random() * 1e9);

  constructor(path: string) {
    this.path = path;
  }

  call(command: string, args: JsonObject, options: AgentCallOptions): Promise<unknown> {
    return this.#inTurn(command, options, async (connection, deadline) => {
      const answer = await this.#ask(connection, command, args, deadline);
      const error = errorOf(answer);
      if (error !== undefined) throw new QmpError("AGENT_ERROR", command, error);
      return answer.return;
    });
  }

  /** For commands that answer only when they fail. */
  async callWithoutAnswer(command: string, args: JsonObject, options: AgentCallOptions): Promise<void> {
    await this.#inTurn(command, options, async (connection, deadline) => {
      let answer: JsonObject;
      try {
        answer = await this.#ask(connection, command, args, deadline);
      } catch (error) {
        if (options.signal?.aborted) throw error;
        this.disconnect("the guest shuts down");
        return;
      }
      const error = errorOf(answer);
      if (error !== undefined) throw new QmpError("AGENT_ERROR", command, error);
    });
  }

  disconnect(why: string): void {
    const connection = this.#connection;
    this.#connection = undefined;
    if (connection === undefined) return;
    connection.lost ??= fail("AGENT_CLOSED", { path: this.path, why });
    connection.lose?.(connection.lost);
    connection.socket.destroy();
  }

  #inTurn<T>(
    command: string,
    options: AgentCallOptions,
    work: (connection: Connection, deadline: Deadline) => Promise<T>,
  ): Promise<T> {
    const { signal, timeoutMs = defaultTimeoutMs } = options;
    if (signal?.aborted) return Promise.reject(cancelled(signal));
    const deadline: Deadline = { command, timeoutMs, at: Date.now() + timeoutMs, signal };
    return new Promise((resolve, reject) => {
      // Whoever gives up while calls before his own are waited for does not disturb them.
      let waiting = true;
      const giveUp = (error: unknown) => {
        waiting = false;
        reject(error);
      };
      const onAbort = () => giveUp(cancelled(signal as AbortSignal));
      const timer = setTimeout(() => giveUp(fail("AGENT_TIMEOUT", { command, timeoutMs })), timeoutMs);
      const settle = () => {
        clearTimeout(timer);
        signal?.removeEventListener("abort", onAbort);
      };
      signal?.addEventListener("abort", onAbort, { once: true });
      this.#queue
        .run("calls", async () => {
          settle();
          if (!waiting) return;
          try {
            resolve(await work(await this.#connected(deadline), deadline));
          } catch (error) {
            if (!(error instanceof QmpError)) this.disconnect("an earlier call got no answer");
            reject(error);
          }
        })
        .catch(reject);
    });
  }

  async #connected(deadline: Deadline): Promise<Connection> {
    const open = this.#connection;
    if (open !== undefined && open.lost === undefined) return open;
    let socket: Socket;
    try {
      socket = await connectUnix(this.path, Math.max(1, deadline.at - Date.now()), deadline.signal);
    } catch (error) {
      if (deadline.signal?.aborted) throw cancelled(deadline.signal);
      throw fail("AGENT_UNREACHABLE", { path: this.path, why: reasonOf(error) }, { cause: error });
    }
    const connection: Connection = {
      socket,
      decoder: new LineDecoder({ maxLineBytes }),
      receive: undefined,
      lose: undefined,
      lost: undefined,
    };
    const lose = (why: string, cause?: unknown) => {
      connection.lost ??= fail("AGENT_CLOSED", { path: this.path, why }, { cause });
      connection.lose?.(connection.lost);
      socket.destroy();
    };
    socket.on("data", (bytes: Buffer) => {
      try {
        connection.decoder.push(bytes, (message) => connection.receive?.(message));
      } catch (error) {
        lose(`it sent something that is not the protocol: ${reasonOf(error)}`, error);
      }
    });
    socket.on("error", (error) => lose(reasonOf(error), error));
    socket.on("close", () => lose("QEMU has closed it"));
    this.#connection = connection;
    await this.#synchronise(connection, deadline);
    return connection;
  }

  async #synchronise(connection: Connection, deadline: Deadline): Promise<void> {
    this.#lastSync += 1;
    const id = this.#lastSync;
    connection.decoder.skipToDelimiter();
    // The delimiter before the command makes the agent drop half a command that an earlier client left.
    connection.socket.write(Buffer.from([delimiter]));
    const isOurs = (message: JsonObject) => {
      if (message.return === id) return true;
      // Another client's late answer; behind it may be the rest of anything.
      connection.decoder.skipToDelimiter();
      return false;
    };
    await this.#ask(connection, "guest-sync-delimited", { id }, deadline, isOurs);
  }

  #ask(
    connection: Connection,
    command: string,
    args: JsonObject,
    deadline: Deadline,
    fits: (message: JsonObject) => boolean = () => true,
  ): Promise<JsonObject> {
    if (connection.lost !== undefined) return Promise.reject(connection.lost);
    return new Promise((resolve, reject) => {
      const { signal } = deadline;
      const settle = (error: unknown, answer?: JsonObject) => {
        clearTimeout(timer);
        signal?.removeEventListener("abort", onAbort);
        connection.receive = undefined;
        connection.lose = undefined;
        if (answer === undefined) reject(error);
        else resolve(answer);
      };
      const onAbort = () => settle(cancelled(signal as AbortSignal));
      const { command: asked, timeoutMs } = deadline;
      const timer = setTimeout(
        () => settle(fail("AGENT_TIMEOUT", { command: asked, timeoutMs })),
        Math.max(1, deadline.at - Date.now()),
      );
      connection.receive = (message) => {
        if (fits(message)) settle(undefined, message);
      };
      connection.lose = settle;
      signal?.addEventListener("abort", onAbort, { once: true });
      const hasArguments = Object.keys(args).length > 0;
      connection.socket.write(encodeLine({ execute: command, ...(hasArguments ? { arguments: args } : {}) }));
    });
  }
}

interface Deadline {
  command: string;
  timeoutMs: number;
  at: number;
  signal: AbortSignal | undefined;
}

import { EventEmitter } from "node:events";
import type { Socket } from "node:net";
import type { SkepError } from "@skep/base";
import { encodeLine, errorOf, type JsonObject, LineDecoder } from "./codec.ts";
import type { QmpCommands, QmpEvent, QmpGreeting } from "./commands.ts";
import { cancelled, fail, QmpError } from "./errors.ts";
import { connectUnix, reasonOf } from "./socket.ts";

export interface CallOptions {
  signal?: AbortSignal | undefined;
  /** Default 30 000. A command that timed out or was aborted may still take effect in QEMU. */
  timeoutMs?: number;
}

interface Call {
  resolve(value: unknown): void;
  reject(error: unknown): void;
  command: string;
}

type Rest<A> =
  Record<string, never> extends A ? [args?: A, options?: CallOptions] : [args: A, options?: CallOptions];

const maxLineBytes = 32 * 1024 * 1024;
const defaultTimeoutMs = 30_000;

/**
 * A QMP connection. QEMU serves one client a socket: while this one lives, others wait.
 * Emits `event` with every QmpEvent.
 */
export class QmpClient extends EventEmitter<{ event: [QmpEvent] }> implements AsyncDisposable {
  readonly path: string;
  /** What QEMU said of itself. */
  readonly greeting: QmpGreeting["QMP"];
  /** Settles when the connection is over, with the reason; never rejects. */
  readonly closed: Promise<SkepError>;
  readonly #socket: Socket;
  readonly #calls = new Map<number, Call>();
  #lastId = 0;
  #reason: SkepError | undefined;

  private constructor(path: string, socket: Socket, greeting: QmpGreeting["QMP"], decoder: LineDecoder) {
    super();
    this.path = path;
    this.greeting = greeting;
    this.#socket = socket;
    socket.on("data", (bytes: Buffer) => {
      try {
        decoder.push(bytes, (message) => this.#receive(message));
      } catch (error) {
        this.#end(fail("QMP_PROTOCOL", { path, why: reasonOf(error) }, { cause: error }));
      }
    });
    socket.on("error", (error) => this.#end(this.#closedBy(reasonOf(error), error)));
    this.closed = new Promise((resolve) => {
      socket.once("close", () => {
        this.#end(this.#closedBy("QEMU has ended or was told to drop it"));
        resolve(this.#reason as SkepError);
      });
    });
  }

  /** Fails with QMP_UNREACHABLE (also when another client holds the socket), QMP_PROTOCOL or CANCELLED. */
  static async connect(
    path: string,
    options: { signal?: AbortSignal | undefined; timeoutMs?: number } = {},
  ): Promise<QmpClient> {
    const { signal, timeoutMs = 10_000 } = options;
    const until = Date.now() + timeoutMs;
    let socket: Socket | undefined;
    try {
      socket = await connectUnix(path, timeoutMs, signal);
      const decoder = new LineDecoder({ maxLineBytes });
      const greeting = await readGreeting(path, socket, decoder, Math.max(1, until - Date.now()), signal);
      const client = new QmpClient(path, socket, greeting, decoder);
      await client.execute("qmp_capabilities", {}, { signal, timeoutMs: Math.max(1, until - Date.now()) });
      return client;
    } catch (error) {
      socket?.destroy();
      if (signal?.aborted) throw cancelled(signal);
      if ((error as SkepError).code === "QMP_PROTOCOL") throw error;
      throw fail("QMP_UNREACHABLE", { path, why: reasonOf(error) }, { cause: error });
    }
  }

  /** Fails with QmpError (code QMP_ERROR), QMP_TIMEOUT, QMP_CLOSED or CANCELLED. */
  execute<C extends keyof QmpCommands>(
    command: C,
    ...rest: Rest<QmpCommands[C]["arguments"]>
  ): Promise<QmpCommands[C]["return"]>;
  execute<R = unknown>(command: string, args?: JsonObject, options?: CallOptions): Promise<R>;
  execute(command: string, args: JsonObject = {}, options: CallOptions = {}): Promise<unknown> {
    const { signal, timeoutMs = defaultTimeoutMs } = options;
    if (signal?.aborted) return Promise.reject(cancelled(signal));
    if (this.#reason !== undefined) return Promise.reject(this.#reason);
    this.#lastId += 1;
    const id = this.#lastId;
    return new Promise((resolve, reject) => {
      const settle = () => {
        this.#calls.delete(id);
        clearTimeout(timer);
        signal?.removeEventListener("abort", onAbort);
      };
      const call: Call = {
        command,
        resolve(value) {
          settle();
          resolve(value);
        },
        reject(error) {
          settle();
          reject(error);
        },
      };
      const onAbort = () => call.reject(cancelled(signal as AbortSignal));
      const timer = setTimeout(() => call.reject(fail("QMP_TIMEOUT", { command, timeoutMs })), timeoutMs);
      signal?.addEventListener("abort", onAbort, { once: true });
      this.#calls.set(id, call);
      const hasArguments = Object.keys(args).length > 0;
      this.#socket.write(encodeLine({ execute: command, ...(hasArguments ? { arguments: args } : {}), id }));
    });
  }

  /** Runs a line of the human monitor and gives what it printed. */
  hmp(line: string, options: CallOptions = {}): Promise<string> {
    return this.execute("human-monitor-command", { "command-line": line }, options);
  }

  /** The next event that fits. Subscribes at once, so call it before what causes the event. */
  nextEvent(fits: string | ((event: QmpEvent) => boolean), options: CallOptions = {}): Promise<QmpEvent> {
    const { signal, timeoutMs } = options;
    const test = typeof fits === "string" ? (event: QmpEvent) => event.event === fits : fits;
    const what = typeof fits === "string" ? `with the event ${fits}` : "with the awaited event";
    return new Promise((resolve, reject) => {
      const settle = (error: unknown, event?: QmpEvent) => {
        clearTimeout(timer);
        this.removeListener("event", onEvent);
        signal?.removeEventListener("abort", onAbort);
        if (event === undefined) reject(error);
        else resolve(event);
      };
      const onEvent = (event: QmpEvent) => {
        if (test(event)) settle(undefined, event);
      };
      const onAbort = () => settle(cancelled(signal as AbortSignal));
      const timer =
        timeoutMs === undefined
          ? undefined
          : setTimeout(() => settle(fail("QMP_TIMEOUT", { command: what, timeoutMs })), timeoutMs);
      this.on("event", onEvent);
      signal?.addEventListener("abort", onAbort, { once: true });
      if (signal?.aborted) onAbort();
      void this.closed.then((reason) => settle(reason));
    });
  }

  /** Lets go of the socket; QEMU runs on. */
  async close(): Promise<void> {
    this.#end(this.#closedBy("it was closed here"));
    await this.closed;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #receive(message: JsonObject): void {
    if (typeof message.event === "string") {
      this.emit("event", {
        event: message.event,
        data: (message.data ?? {}) as QmpEvent["data"],
        timestamp: (message.timestamp ?? { seconds: -1, microseconds: 0 }) as QmpEvent["timestamp"],
      });
      return;
    }
    // An answer whose caller has given up finds no call any more. An error without an id means that
    // QEMU could not read what we sent: it belongs to the oldest call.
    const id = message.id ?? (message.error === undefined ? undefined : this.#calls.keys().next().value);
    const call = this.#calls.get(id as number);
    if (call === undefined) return;
    const error = errorOf(message);
    if (error === undefined) call.resolve(message.return);
    else call.reject(new QmpError("QMP_ERROR", call.command, error));
  }

  #closedBy(why: string, cause?: unknown): SkepError {
    return fail("QMP_CLOSED", { path: this.path, why }, { cause });
  }

  #end(reason: SkepError): void {
    this.#reason ??= reason;
    for (const call of [...this.#calls.values()]) call.reject(this.#reason);
    this.#socket.destroy();
  }
}

function readGreeting(
  path: string,
  socket: Socket,
  decoder: LineDecoder,
  timeoutMs: number,
  signal?: AbortSignal,
): Promise<QmpGreeting["QMP"]> {
  return new Promise((resolve, reject) => {
    const settle = (error: unknown, greeting?: QmpGreeting["QMP"]) => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", onAbort);
      socket.removeListener("data", onData).removeListener("error", settle).removeListener("close", onClose);
      if (greeting !== undefined) return resolve(greeting);
      socket.on("error", () => {});
      reject(error);
    };
    const onData = (bytes: Buffer) => {
      try {
        decoder.push(bytes, (message) => {
          const greeting = (message as Partial<QmpGreeting>).QMP;
          if (greeting?.version?.qemu === undefined)
            settle(fail("QMP_PROTOCOL", { path, why: "no greeting" }));
          else settle(undefined, greeting);
        });
      } catch (error) {
        settle(fail("QMP_PROTOCOL", { path, why: reasonOf(error) }, { cause: error }));
      }
    };
    const onClose = () => settle(new Error("it was closed before the greeting"));
    const onAbort = () => settle(signal?.reason);
    const timer = setTimeout(
      () => settle(new Error(`no greeting within ${timeoutMs} ms; another client may hold it`)),
      timeoutMs,
    );
    socket.on("data", onData).once("error", settle).once("close", onClose);
    signal?.addEventListener("abort", onAbort, { once: true });
  });
}

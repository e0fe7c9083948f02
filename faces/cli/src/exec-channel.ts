import { Readable, Writable } from "node:stream";
import type { ApiClient, ExecRequest } from "@skep/api";
import { SkepError } from "@skep/base";
import type { RawData, WebSocket } from "ws";
import { fail } from "./errors.ts";

/** A command in a machine, over the exec WebSocket: binary frames begin with the stream's number. */
export interface ExecChannel {
  readonly stdin: Writable;
  readonly stdout: Readable;
  /** Silent with a terminal, where both are one. */
  readonly stderr: Readable;
  /** The guest has answered and runs the command; one that boots is waited for. */
  readonly started: Promise<void>;
  /** 0..255. Rejects with the server's error, or when the connection is lost. */
  readonly exit: Promise<number>;
  resize(columns: number, rows: number): void;
  signal(name: string): void;
  /** Ends the remote command, too. */
  close(): void;
}

/** Input sent and not yet taken by the command; a signal never waits behind more than this. */
const windowBytes = 256 * 1024;
const frameBytes = 64 * 1024;

interface ServerMessage {
  started?: { transport: string };
  stdinTaken?: number;
  exit?: number;
  error?: { code: string; message: string; hint?: string };
}

export async function openExec(
  client: ApiClient,
  name: string,
  request: Omit<ExecRequest, "stdinTaken">,
): Promise<ExecChannel> {
  const socket = await client.socket(`/v1/machines/${encodeURIComponent(name)}/exec`);
  return execChannel(socket, name, request);
}

function execChannel(socket: WebSocket, name: string, request: Omit<ExecRequest, "stdinTaken">): ExecChannel {
  const paused = new Set<Readable>();
  const output = (): Readable => {
    const stream: Readable = new Readable({
      highWaterMark: 1024 * 1024,
      read() {
        if (paused.delete(stream) && paused.size === 0) socket.resume();
      },
    });
    stream.on("error", () => {}); // told by `exit`
    return stream;
  };
  const stdout = output();
  const stderr = output();
  const input = new InputWindow(socket);
  let ended = false;

  const started = Promise.withResolvers<void>();
  const exit = new Promise<number>((resolve, reject) => {
    const end = (settle: () => void, failure?: Error) => {
      if (ended) return;
      ended = true;
      input.abandon();
      for (const stream of [stdout, stderr]) {
        paused.delete(stream);
        if (failure === undefined) stream.push(null);
        else stream.destroy(failure);
      }
      settle();
      if (socket.isPaused) socket.resume();
      socket.close();
    };
    const lost = (why: string) => {
      const error = fail("CONNECTION_LOST", { name, why: why === "" ? "" : `: ${why}` });
      end(() => reject(error), error);
    };
    const onText = (text: string) => {
      const message = JSON.parse(text) as ServerMessage;
      if (message.started !== undefined) started.resolve();
      if (typeof message.stdinTaken === "number") input.taken(message.stdinTaken);
      if (message.error !== undefined) {
        const { code, message: said, hint } = message.error;
        const error = new SkepError(code, said, { status: 502, ...(hint === undefined ? {} : { hint }) });
        end(() => reject(error), error);
      } else if (typeof message.exit === "number") {
        const status = message.exit;
        end(() => resolve(status));
      }
    };
    socket.on("message", (data: RawData, isBinary: boolean) => {
      if (ended) return;
      if (!isBinary) {
        try {
          onText(String(data));
        } catch {
          lost("the server sent something that is not JSON");
        }
        return;
      }
      const frame = data as Buffer;
      const stream = frame[0] === 1 ? stdout : frame[0] === 2 ? stderr : undefined;
      if (stream !== undefined && frame.length > 1 && !stream.push(frame.subarray(1))) {
        paused.add(stream);
        socket.pause();
      }
    });
    socket.on("error", (error) => lost(error.message));
    socket.on("close", (_code, reason) => lost(reason.toString().slice(0, 200)));
  });
  exit.then(() => started.resolve(), started.reject);
  started.promise.catch(() => {}); // told by `exit`, too
  exit.catch(() => {}); // awaited by the caller; it may end before that

  const tell = (message: object) => {
    if (socket.readyState === socket.OPEN) socket.send(JSON.stringify(message));
  };
  tell({ ...request, stdinTaken: true });
  return {
    stdin: input.stream,
    stdout,
    stderr,
    started: started.promise,
    exit,
    resize: (columns, rows) => tell({ resize: { columns, rows } }),
    signal: (signal) => tell({ signal }),
    close: () => socket.close(),
  };
}

/** Standard input of the remote command: never more on the way than the window holds. */
class InputWindow {
  readonly stream: Writable;
  readonly #socket: WebSocket;
  #sent = 0;
  #taken = 0;
  #closed = false;
  #wake: (() => void) | undefined;

  constructor(socket: WebSocket) {
    this.#socket = socket;
    this.stream = new Writable({
      highWaterMark: frameBytes,
      write: (chunk: Buffer, _encoding, done) => {
        this.#send(chunk).then(() => done(), done);
      },
      final: (done) => {
        if (!this.#closed) socket.send(JSON.stringify({ stdinEnd: true }));
        done();
      },
    });
    this.stream.on("error", () => {}); // a command that does not read its input is no failure
  }

  async #send(chunk: Buffer): Promise<void> {
    for (let from = 0; from < chunk.length && !this.#closed; from += frameBytes) {
      const part = chunk.subarray(from, from + frameBytes);
      while (!this.#closed && this.#sent - this.#taken >= windowBytes) {
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
      }
      if (this.#closed) return;
      this.#sent += part.length;
      const frame = Buffer.allocUnsafe(part.length + 1);
      frame[0] = 0;
      frame.set(part, 1);
      await new Promise<void>((resolve) => this.#socket.send(frame, () => resolve()));
    }
  }

  /** The server's count of bytes that the command has taken so far. */
  taken(total: number): void {
    this.#taken = total;
    this.#wake?.();
  }

  abandon(): void {
    this.#closed = true;
    this.#wake?.();
  }
}

import { setMaxListeners } from "node:events";
import type { Duplex } from "node:stream";
import { type Request, RequestDecoder } from "./codec.ts";
import type { BlockDevice, BlockExtent, Export, ReadOptions, ReadResult } from "./device.ts";
import { errnoOf, NbdError, ProtocolError } from "./errors.ts";
import { Output } from "./output.ts";
import type { Payloads } from "./payloads.ts";
import { Command, CommandFlag } from "./protocol.ts";
import { type Rules, refusal } from "./refusal.ts";
import { maxExtents, Replies } from "./replies.ts";

export interface SessionLimits {
  maxPayloadBytes: number;
  maxRequests: number;
  maxBytes: number;
  idleTimeoutMs: number | undefined;
}

export interface SessionOptions {
  /** Nobody else listens to it any more. The bytes of its events are used again afterwards. */
  socket: Duplex & { setTimeout?(timeoutMs: number, onTimeout: () => void): unknown };
  export: Export;
  structured: boolean;
  /** The id of base:allocation, where the client chose it. */
  allocationId: number | undefined;
  limits: SessionLimits;
  payloads: Payloads;
  /** What came behind the handshake. */
  first: Buffer;
  /** Of the device, where it gave no NbdError; and of the connection. */
  onError(error: unknown, command?: string): void;
}

const commandNames = new Map<number, string>(Object.entries(Command).map(([name, number]) => [number, name]));

/**
 * One connection in the transmission phase. Requests run in parallel. Each counts, with its bytes, until its
 * answer has left for the kernel; while too many do, the socket is not read.
 */
export class Session {
  /** Settles when the connection is over and the device has nothing more to do for it. */
  readonly over: Promise<void>;
  readonly #options: SessionOptions;
  readonly #socket: SessionOptions["socket"];
  readonly #device: BlockDevice;
  readonly #rules: Rules;
  readonly #decoder: RequestDecoder;
  readonly #output: Output;
  readonly #replies: Replies;
  readonly #abort = new AbortController();
  readonly #readOptions: ReadOptions;
  #requests = 0;
  #bytes = 0;
  #deviceCalls = 0;
  #paused = false;
  #draining = false;
  #ended = false;
  #closed = false;
  #settle: () => void = () => {};

  constructor(options: SessionOptions) {
    const { socket, limits } = options;
    this.#options = options;
    this.#socket = socket;
    this.#device = options.export.device;
    this.#rules = {
      device: this.#device,
      readOnly: options.export.readOnly === true || this.#device.readOnly,
      structured: options.structured,
      allocation: options.allocationId !== undefined,
      maxPayloadBytes: limits.maxPayloadBytes,
    };
    this.#decoder = new RequestDecoder({
      maxPayloadBytes: limits.maxPayloadBytes,
      allocate: (length) => options.payloads.lend(length),
    });
    this.#readOptions = {
      signal: this.#abort.signal,
      lend: (lengthBytes) => options.payloads.lendAnswer(lengthBytes),
    };
    this.#output = new Output(socket, options.payloads, (requests, bytes) => this.#sent(requests, bytes));
    this.#replies = new Replies(this.#output, options);
    this.over = new Promise((resolve) => {
      this.#settle = resolve;
    });
    setMaxListeners(0, this.#abort.signal);
    socket.on("data", (bytes: Buffer) => {
      this.#decoder.push(bytes);
      this.#pump();
    });
    // Only after a goodbye may a client still wait for answers; without one it is gone.
    socket.on("end", () => {
      if (!this.#draining) this.destroy();
    });
    socket.on("error", (error) => options.onError(error));
    socket.once("close", () => {
      this.#closed = true;
      this.#abort.abort();
      this.#settleWhenOver();
    });
    if (limits.idleTimeoutMs !== undefined) {
      socket.setTimeout?.(limits.idleTimeoutMs, () => {
        if (this.#deviceCalls === 0) this.destroy();
      });
    }
    this.#decoder.push(options.first);
    this.#pump();
    if (!this.#paused) socket.resume();
  }

  /** Answers what was accepted, takes nothing more, and ends the connection. */
  drain(): void {
    this.#draining = true;
    this.#pause();
    this.#endWhenDrained();
  }

  destroy(): void {
    this.#socket.destroy();
  }

  #pump(): void {
    const { maxRequests, maxBytes } = this.#options.limits;
    try {
      while (!this.#draining && !this.#closed) {
        if (this.#requests >= maxRequests || this.#bytes >= maxBytes) {
          this.#decoder.detach();
          this.#pause();
          break;
        }
        const request = this.#decoder.next();
        if (request === undefined) {
          this.#resume();
          break;
        }
        if (request.command === Command.disconnect) this.drain();
        else this.#serve(request);
      }
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error;
      this.#options.onError(error);
      this.destroy();
    }
    this.#output.flush();
  }

  #pause(): void {
    if (this.#paused) return;
    this.#paused = true;
    this.#socket.pause();
  }

  #resume(): void {
    if (!this.#paused) return;
    this.#paused = false;
    this.#socket.resume();
  }

  #sent(requests: number, bytes: number): void {
    this.#requests -= requests;
    this.#bytes -= bytes;
    if (this.#closed) return;
    if (this.#draining) this.#endWhenDrained();
    else if (this.#paused) this.#pump();
  }

  #endWhenDrained(): void {
    if (this.#requests > 0 || this.#closed || this.#ended) return;
    this.#ended = true;
    this.#socket.end(() => this.#socket.destroy());
    // Whatever still comes is read and dropped, or a peer that never ends would keep the socket.
    this.#socket.removeAllListeners("data");
    this.#socket.resume();
  }

  #settleWhenOver(): void {
    if (this.#closed && this.#deviceCalls === 0) this.#settle();
  }

  #serve(request: Request): void {
    this.#requests += 1;
    const counted = countedBytes(request);
    this.#bytes += counted;
    const errno = refusal(request, this.#rules);
    if (errno !== undefined) {
      this.#replies.error(request, errno, "");
      this.#answered(request, counted);
      return;
    }
    let result: unknown;
    try {
      result = this.#call(request);
    } catch (error) {
      this.#replyFailure(request, counted, error);
      return;
    }
    if (!(result instanceof Promise)) {
      this.#reply(request, counted, result);
      return;
    }
    this.#deviceCalls += 1;
    result.then(
      (value: unknown) => this.#answer(() => this.#reply(request, counted, value)),
      (error: unknown) => this.#answer(() => this.#replyFailure(request, counted, error)),
    );
  }

  /** The end of a device's call that took its time. */
  #answer(reply: () => void): void {
    this.#deviceCalls -= 1;
    if (this.#closed) {
      this.#settleWhenOver();
      return;
    }
    reply();
    this.#output.schedule();
  }

  #answered(request: Request, counted: number): void {
    if (request.data !== undefined) this.#options.payloads.release(request.data);
    this.#output.answered(counted);
  }

  #call(request: Request): unknown {
    const { offset, length, flags } = request;
    if (length === 0 && request.command !== Command.flush) return [];
    const device = this.#device;
    const fua = (flags & CommandFlag.fua) !== 0 || this.#options.export.everyWriteFua === true;
    switch (request.command) {
      case Command.read:
        return device.read(offset, length, this.#readOptions);
      case Command.write:
        return device.write(offset, request.data as Buffer, { fua });
      case Command.flush:
        return device.flush();
      case Command.trim:
        return device.trim?.(offset, length, { fua });
      case Command.cache:
        return device.cache?.(offset, length, this.#readOptions);
      case Command.writeZeroes: {
        const noHole = (flags & CommandFlag.noHole) !== 0;
        const fast = (flags & CommandFlag.fastZero) !== 0;
        return device.writeZeroes?.(offset, length, { fua, noHole, fast });
      }
      default:
        return device.blockStatus?.(offset, length, {
          signal: this.#abort.signal,
          maxExtents: (flags & CommandFlag.reqOne) !== 0 ? 1 : maxExtents,
        });
    }
  }

  #reply(request: Request, counted: number, result: unknown): void {
    const replies = this.#replies;
    try {
      if (request.command === Command.read) replies.read(request, result as ReadResult);
      else if (request.command === Command.blockStatus) {
        replies.blockStatus(request, result as readonly BlockExtent[]);
      } else replies.done(request);
    } catch (error) {
      this.#replyFailure(request, counted, error);
      return;
    }
    this.#answered(request, counted);
  }

  #replyFailure(request: Request, counted: number, error: unknown): void {
    if (!(error instanceof NbdError)) {
      this.#options.onError(error, commandNames.get(request.command));
      this.#replies.error(request, errnoOf(error), "");
    } else {
      const { offset } = error;
      const inside =
        offset !== undefined && offset >= request.offset && offset < request.offset + request.length;
      this.#replies.error(request, error.errno, error.message, inside ? offset : undefined);
    }
    this.#answered(request, counted);
  }
}

/** What a request may hold of memory: a write its data, a read its answer. */
function countedBytes(request: Request): number {
  return request.command === Command.read || request.data !== undefined ? request.length : 0;
}

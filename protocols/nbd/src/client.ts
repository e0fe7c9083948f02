import type { Socket } from "node:net";
import type { SkepError } from "@skep/base";
import { type Agreement, type ConnectOptions, enter } from "./client-handshake.ts";
import { putRequest, type Reply, ReplyDecoder, requestBytes } from "./codec.ts";
import type { BlockExtent } from "./device.ts";
import { cancelled, fail, NbdError, ProtocolError, reasonOf } from "./errors.ts";
import type { BlockSizes } from "./handshake-codec.ts";
import {
  Command,
  CommandFlag,
  errnoName,
  StateFlag,
  TransmissionFlag,
  usualPayloadBytes,
} from "./protocol.ts";

export interface CallOptions {
  /** Gives up waiting; the server may still carry the command out. */
  signal?: AbortSignal | undefined;
}

type CommandName = Exclude<keyof typeof Command, "disconnect">;

interface Call {
  command: CommandName;
  offset: number;
  length: number;
  /** Of a read: filled by its answer. */
  into: Buffer | undefined;
  /** Of `into`: how much was filled. */
  filled: number;
  extents: BlockExtent[];
  error: NbdError | undefined;
  resolve(call: Call): void;
  reject(error: unknown): void;
}

/** More descriptors than this fit no honest answer. */
const maxStatusBytes = 4 + 8 * 1024 * 1024;
const maxErrorBytes = 6 + 65535 + 8;
const closeTimeoutMs = 10_000;

/**
 * A connection to an export. Commands run in parallel: as many as are called. When the connection is lost, all
 * fail with NBD_CLOSED, and whoever wants to go on connects anew. A server's refusal is an NbdError.
 */
export class NbdClient implements AsyncDisposable {
  readonly uri: string;
  readonly sizeBytes: number;
  readonly blockSizes: BlockSizes;
  readonly readOnly: boolean;
  readonly multiConn: boolean;
  readonly rotational: boolean;
  readonly structured: boolean;
  /** What else the export can: flush, trim, … */
  readonly can: Readonly<
    Record<"flush" | "fua" | "trim" | "writeZeroes" | "fastZero" | "df" | "cache" | "blockStatus", boolean>
  >;
  /** Settles when the connection is over, with the reason; never rejects. */
  readonly closed: Promise<SkepError>;
  readonly #socket: Socket;
  readonly #allocationId: number | undefined;
  readonly #calls = new Map<number, Call>();
  #lastCookie = 0;
  #reason: SkepError | undefined;

  private constructor(uri: string, agreement: Agreement) {
    const { flags, socket, allocationId, rest } = agreement;
    const has = (flag: number) => (flags & flag) !== 0;
    this.uri = uri;
    this.sizeBytes = agreement.sizeBytes;
    this.blockSizes = agreement.blockSizes ?? { minimum: 1, preferred: 4096, maximum: usualPayloadBytes };
    this.readOnly = has(TransmissionFlag.readOnly);
    this.multiConn = has(TransmissionFlag.canMultiConn);
    this.rotational = has(TransmissionFlag.rotational);
    this.structured = agreement.structured;
    this.can = {
      flush: has(TransmissionFlag.sendFlush),
      fua: has(TransmissionFlag.sendFua),
      trim: has(TransmissionFlag.sendTrim),
      writeZeroes: has(TransmissionFlag.sendWriteZeroes),
      fastZero: has(TransmissionFlag.sendFastZero),
      df: has(TransmissionFlag.sendDf),
      cache: has(TransmissionFlag.sendCache),
      blockStatus: allocationId !== undefined,
    };
    this.#socket = socket;
    this.#allocationId = allocationId;
    const decoder = new ReplyDecoder((high, low) => this.#expected(high, low));
    const take = (bytes: Buffer) => {
      try {
        decoder.push(bytes);
        for (let reply = decoder.next(); reply !== undefined; reply = decoder.next()) this.#receive(reply);
      } catch (error) {
        if (!(error instanceof ProtocolError)) throw error;
        this.#end(fail("NBD_PROTOCOL", { address: uri, why: error.message }, { cause: error }));
      }
    };
    this.closed = new Promise((resolve) => {
      socket.once("close", () => {
        this.#end(this.#closedBy("the server has ended it"));
        resolve(this.#reason as SkepError);
      });
    });
    socket.on("error", (error) => this.#end(this.#closedBy(reasonOf(error), error)));
    socket.on("end", () => socket.destroy());
    take(rest);
    socket.on("data", take);
    socket.resume();
  }

  /** NBD_UNREACHABLE, NBD_PROTOCOL, NBD_EXPORT_UNKNOWN, NBD_TLS_REQUIRED, NBD_TLS_FAILED, NBD_REFUSED, CANCELLED. */
  static async connect(options: ConnectOptions): Promise<NbdClient> {
    return new NbdClient(options.uri, await enter(options));
  }

  /** At most `blockSizes.maximum` bytes; `df` has the server answer in one piece. */
  async read(offset: number, length: number, options: CallOptions & { df?: boolean } = {}): Promise<Buffer> {
    const flags = options.df === true ? CommandFlag.df : 0;
    const { into } = await this.#call("read", { offset, length, flags, signal: options.signal });
    return into as Buffer;
  }

  async write(
    offset: number,
    data: Uint8Array,
    options: CallOptions & { fua?: boolean } = {},
  ): Promise<void> {
    const flags = options.fua === true ? CommandFlag.fua : 0;
    await this.#call("write", { offset, length: data.length, flags, data, signal: options.signal });
  }

  async flush(options: CallOptions = {}): Promise<void> {
    await this.#call("flush", { offset: 0, length: 0, flags: 0, signal: options.signal });
  }

  async trim(offset: number, length: number, options: CallOptions & { fua?: boolean } = {}): Promise<void> {
    const flags = options.fua === true ? CommandFlag.fua : 0;
    await this.#call("trim", { offset, length, flags, signal: options.signal });
  }

  async writeZeroes(
    offset: number,
    length: number,
    options: CallOptions & { fua?: boolean; noHole?: boolean; fast?: boolean } = {},
  ): Promise<void> {
    const flags =
      (options.fua === true ? CommandFlag.fua : 0) |
      (options.noHole === true ? CommandFlag.noHole : 0) |
      (options.fast === true ? CommandFlag.fastZero : 0);
    await this.#call("writeZeroes", { offset, length, flags, signal: options.signal });
  }

  async cache(offset: number, length: number, options: CallOptions = {}): Promise<void> {
    await this.#call("cache", { offset, length, flags: 0, signal: options.signal });
  }

  /** Extents from `offset` on: at least one; they may end early, and then whoever wants more asks again. */
  async blockStatus(
    offset: number,
    length: number,
    options: CallOptions & { one?: boolean } = {},
  ): Promise<BlockExtent[]> {
    const flags = options.one === true ? CommandFlag.reqOne : 0;
    const { extents } = await this.#call("blockStatus", { offset, length, flags, signal: options.signal });
    return extents;
  }

  /** Takes its leave of the server. What is in flight is answered first. */
  async close(): Promise<void> {
    if (this.#reason === undefined) {
      this.#send("disconnect", 0, { offset: 0, length: 0, flags: 0 });
      this.#socket.end();
    }
    // A server that does not end it, has hung.
    const timer = setTimeout(() => this.#socket.destroy(), closeTimeoutMs);
    await this.closed;
    clearTimeout(timer);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #call(
    command: CommandName,
    request: {
      offset: number;
      length: number;
      flags: number;
      data?: Uint8Array;
      signal?: AbortSignal | undefined;
    },
  ): Promise<Call> {
    const { offset, length, signal } = request;
    if (signal?.aborted) return Promise.reject(cancelled(signal));
    if (this.#reason !== undefined) return Promise.reject(this.#reason);
    const possible = command === "read" || command === "write" || this.can[command];
    if (!possible) return Promise.reject(fail("NBD_UNSUPPORTED", { command }));
    this.#lastCookie += 1;
    const cookie = this.#lastCookie;
    return new Promise((resolve, reject) => {
      const onAbort = () => reject(cancelled(signal as AbortSignal));
      const settle = () => signal?.removeEventListener("abort", onAbort);
      this.#calls.set(cookie, {
        command,
        offset,
        length,
        into: command === "read" ? Buffer.alloc(length) : undefined,
        filled: 0,
        extents: [],
        error: undefined,
        resolve(call) {
          settle();
          resolve(call);
        },
        reject(error) {
          settle();
          reject(error);
        },
      });
      signal?.addEventListener("abort", onAbort, { once: true });
      this.#send(command, cookie, request);
    });
  }

  #send(
    command: keyof typeof Command,
    cookie: number,
    { offset, length, flags, data }: { offset: number; length: number; flags: number; data?: Uint8Array },
  ): void {
    const header = Buffer.allocUnsafe(requestBytes);
    const cookieHigh = Math.floor(cookie / 2 ** 32);
    const cookieLow = cookie % 2 ** 32;
    putRequest(header, 0, { flags, command: Command[command], cookieHigh, cookieLow, offset, length });
    this.#socket.cork();
    this.#socket.write(header);
    if (data !== undefined && data.length > 0) this.#socket.write(data);
    process.nextTick(() => this.#socket.uncork());
  }

  #find(cookieHigh: number, cookieLow: number): Call {
    const call = this.#calls.get(cookieHigh * 2 ** 32 + cookieLow);
    if (call === undefined) throw new ProtocolError("an answer to what was not asked");
    return call;
  }

  #expected(cookieHigh: number, cookieLow: number): { dataBytes: number; maxChunkBytes: number } {
    const { command, length } = this.#find(cookieHigh, cookieLow);
    const most = command === "read" ? length + 8 : command === "blockStatus" ? maxStatusBytes : 0;
    return { dataBytes: command === "read" ? length : 0, maxChunkBytes: Math.max(most, maxErrorBytes) };
  }

  #receive(reply: Reply): void {
    const call = this.#find(reply.cookieHigh, reply.cookieLow);
    switch (reply.kind) {
      case "simple":
        if (reply.error !== 0) call.error ??= refusedWith(call, reply.error, "");
        else if (reply.data !== undefined) this.#fill(call, call.offset, reply.data.length, reply.data);
        this.#finish(reply, call);
        return;
      case "data":
        this.#fill(call, reply.offset, reply.data.length, reply.data);
        break;
      case "hole":
        this.#fill(call, reply.offset, reply.length, undefined);
        break;
      case "status":
        if (call.command !== "blockStatus" || reply.contextId !== this.#allocationId) {
          throw new ProtocolError("a block status that was not asked for");
        }
        for (let i = 0; i < reply.descriptors.length; i += 2) {
          const state = reply.descriptors[i + 1] as number;
          const hole = (state & StateFlag.hole) !== 0;
          const zero = (state & StateFlag.zero) !== 0;
          const length = reply.descriptors[i] as number;
          if (length === 0) throw new ProtocolError("an empty extent");
          call.extents.push({ length, hole, zero });
        }
        break;
      case "error":
        call.error ??= refusedWith(call, reply.error, reply.message, reply.offset);
        break;
      case "none":
        break;
    }
    if (reply.done) this.#finish(reply, call);
  }

  #fill(call: Call, offset: number, length: number, data: Buffer | undefined): void {
    const at = offset - call.offset;
    if (call.into === undefined || at < 0 || at + length > call.into.length) {
      throw new ProtocolError("data outside of what was asked for");
    }
    data?.copy(call.into, at);
    call.filled += length;
  }

  #finish(reply: Reply, call: Call): void {
    const { into, error, command } = call;
    if (error === undefined && into !== undefined && call.filled !== call.length) {
      throw new ProtocolError(`${call.filled} bytes where ${call.length} were asked for`);
    }
    if (error === undefined && command === "blockStatus" && call.extents.length === 0) {
      throw new ProtocolError("no block status where one was asked for");
    }
    this.#calls.delete(reply.cookieHigh * 2 ** 32 + reply.cookieLow);
    if (error === undefined) call.resolve(call);
    else call.reject(error);
  }

  #closedBy(why: string, cause?: unknown): SkepError {
    return fail("NBD_CLOSED", { address: this.uri, why }, { cause });
  }

  #end(reason: SkepError): void {
    this.#reason ??= reason;
    const calls = [...this.#calls.values()];
    this.#calls.clear();
    for (const call of calls) call.reject(this.#reason);
    this.#socket.destroy();
  }
}

function refusedWith(call: Call, number: number, message: string, offset?: number): NbdError {
  const errno = errnoName(number);
  const { message: text } = fail("NBD_FAILED", {
    command: `${call.command} of ${call.length} bytes at ${call.offset}`,
    errno,
    why: message === "" ? "" : ` (${message})`,
  });
  return new NbdError(errno, text, offset === undefined ? {} : { offset });
}

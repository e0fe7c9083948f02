import { connect, type Socket } from "node:net";
import { Channel } from "./channel.ts";
import { ConnectionEnded, cancelled, fail, ProtocolError, reasonOf } from "./errors.ts";
import {
  type BlockSizes,
  decodeExport,
  decodeInfo,
  decodeMetaContext,
  decodeServer,
  encodeClientFlags,
  encodeInfoRequest,
  encodeMetaContextRequest,
  encodeOption,
  type Greeting,
  isErrorReply,
  OptionReplyDecoder,
  type OptionReplyMessage,
  optionName,
  refusalOf,
} from "./handshake-codec.ts";
import { allocationContext, exportNamePadding, Info, Option, OptionReply } from "./protocol.ts";
import { type ClientTls, connectTls } from "./tls.ts";
import { type NbdAddress, parseNbdUri } from "./uri.ts";

export interface ConnectOptions {
  /** `nbd+unix:///NAME?socket=PATH`, `nbd://HOST:PORT/NAME`, `nbds://…` */
  uri: string;
  /** For nbds, or where a server of nbd wants it. */
  tls?: ClientTls;
  /** Default true; without it, nothing that depends on them is negotiated either. */
  structuredReplies?: boolean;
  signal?: AbortSignal | undefined;
  /** For connection and handshake together. Default 10 000. */
  timeoutMs?: number;
}

export interface ExportInfo {
  name: string;
  description: string;
}

export interface Agreement {
  socket: Socket;
  sizeBytes: number;
  flags: number;
  /** Where the server named none: any offset and length, up to 32 MiB. */
  blockSizes: BlockSizes | undefined;
  structured: boolean;
  allocationId: number | undefined;
  rest: Buffer;
}

const maxReplies = 100_000;

/** Chooses an export and enters the transmission phase. */
export function enter(options: ConnectOptions): Promise<Agreement> {
  const address = parseNbdUri(options.uri);
  return within(address, options, (handshake) => handshake.enter(address.exportName, options));
}

/** The server's exports. It hides them where it wants TLS and gets none. */
export function listExports(options: ConnectOptions): Promise<ExportInfo[]> {
  return within(parseNbdUri(options.uri), options, (handshake) => handshake.list());
}

async function within<T>(
  address: NbdAddress,
  { tls, signal, timeoutMs = 10_000 }: ConnectOptions,
  work: (handshake: Handshake) => Promise<T>,
): Promise<T> {
  signal?.throwIfAborted();
  const shown = "path" in address.where ? address.where.path : `${address.where.host}:${address.where.port}`;
  const handshake = new Handshake(shown, connect(address.where));
  let late = false;
  const timer = setTimeout(() => {
    late = true;
    handshake.socket.destroy();
  }, timeoutMs);
  const onAbort = () => handshake.socket.destroy();
  signal?.addEventListener("abort", onAbort, { once: true });
  try {
    await handshake.start(address, tls);
    return await work(handshake);
  } catch (error) {
    handshake.socket.destroy();
    if (signal?.aborted) throw cancelled(signal);
    const why = late ? `no answer within ${timeoutMs} ms` : reasonOf(error);
    // A server's "no" to a certificate comes only after the handshake of TLS 1.3.
    if (isTlsError(error)) throw fail("NBD_TLS_FAILED", { address: shown, why }, { cause: error });
    if (late || isLost(error)) throw fail("NBD_UNREACHABLE", { address: shown, why }, { cause: error });
    if (error instanceof ProtocolError) throw fail("NBD_PROTOCOL", { address: shown, why }, { cause: error });
    throw error;
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", onAbort);
  }
}

function isLost(error: unknown): boolean {
  const { code, syscall } = error as NodeJS.ErrnoException;
  return error instanceof ConnectionEnded || syscall !== undefined || code === "ERR_STREAM_DESTROYED";
}

function isTlsError(error: unknown): boolean {
  return String((error as { code?: unknown }).code).startsWith("ERR_SSL");
}

/** The client's side of the handshake. */
class Handshake {
  readonly #address: string;
  readonly #decoder = new OptionReplyDecoder();
  #channel: Channel;
  #noZeroes = false;

  constructor(address: string, socket: Socket) {
    this.#address = address;
    // Outside of a wait nobody listens to its errors; whoever reads or writes next is told.
    socket.on("error", () => {});
    this.#channel = new Channel(socket);
  }

  get socket(): Socket {
    return this.#channel.socket;
  }

  async start(address: NbdAddress, tls: ClientTls | undefined): Promise<void> {
    const greeting = (await this.#next()) as Greeting;
    if (!greeting.fixedNewstyle) throw new ProtocolError("it is too old: no fixed newstyle handshake");
    this.#noZeroes = greeting.noZeroes;
    await this.#channel.send(encodeClientFlags({ fixedNewstyle: true, noZeroes: greeting.noZeroes }));
    if (!address.tls && tls === undefined) return;
    const reply = await this.#ask(Option.startTls);
    if (isErrorReply(reply.type)) {
      if (address.tls) throw fail("NBD_TLS_FAILED", { address: this.#address, why: refusalOf(reply) });
      return;
    }
    // What came in clear text must not count as said in TLS.
    if (this.#decoder.rest().length > 0) throw new ProtocolError("bytes behind the answer to STARTTLS");
    const host = "host" in address.where ? address.where.host : undefined;
    try {
      const secured = await connectTls(this.socket, host, {
        ...tls,
        ...(address.serverName === undefined ? {} : { serverName: address.serverName }),
        ...(address.verify === undefined ? {} : { verify: address.verify }),
      });
      secured.on("error", () => {});
      this.#channel = new Channel(secured);
    } catch (error) {
      throw fail("NBD_TLS_FAILED", { address: this.#address, why: reasonOf(error) }, { cause: error });
    }
  }

  async list(): Promise<ExportInfo[]> {
    const replies = await this.#askAll(Option.list);
    const last = replies.at(-1) as OptionReplyMessage;
    if (isErrorReply(last.type)) throw this.#refused(Option.list, last);
    await this.#channel.send(encodeOption(Option.abort));
    this.socket.end(() => this.socket.destroy());
    return replies.filter(({ type }) => type === OptionReply.server).map(({ data }) => decodeServer(data));
  }

  async enter(name: string, { structuredReplies = true }: ConnectOptions): Promise<Agreement> {
    let structured = false;
    let allocationId: number | undefined;
    if (structuredReplies) {
      const reply = await this.#ask(Option.structuredReply);
      this.#needNoTls(reply);
      structured = reply.type === OptionReply.ack;
    }
    if (structured) {
      const data = encodeMetaContextRequest({ name, queries: [allocationContext] });
      const replies = await this.#askAll(Option.setMetaContext, data);
      const chosen = replies.find(({ type }) => type === OptionReply.metaContext);
      if (chosen !== undefined && replies.at(-1)?.type === OptionReply.ack) {
        allocationId = decodeMetaContext(chosen.data).id;
      }
    }
    const infos = [Info.blockSize];
    const replies = await this.#askAll(Option.go, encodeInfoRequest({ name, infos }));
    const last = replies.at(-1) as OptionReplyMessage;
    if (last.type === OptionReply.errorUnsupported) return this.#enterByName(name, structured, allocationId);
    if (last.type === OptionReply.errorUnknown) {
      throw fail("NBD_EXPORT_UNKNOWN", { address: this.#address, name });
    }
    if (isErrorReply(last.type)) throw this.#refused(Option.go, last);
    const items = replies.filter(({ type }) => type === OptionReply.info).map(({ data }) => decodeInfo(data));
    const info = items.find((item) => item?.type === "export");
    const sizes = items.find((item) => item?.type === "blockSize");
    if (info === undefined) throw new ProtocolError("it did not say the size of the export");
    const { sizeBytes, flags } = info;
    const blockSizes =
      sizes === undefined
        ? undefined
        : { minimum: sizes.minimum, preferred: sizes.preferred, maximum: sizes.maximum };
    return { ...this.#agreed(structured, allocationId), sizeBytes, flags, blockSizes };
  }

  async #enterByName(
    name: string,
    structured: boolean,
    allocationId: number | undefined,
  ): Promise<Agreement> {
    await this.#channel.send(encodeOption(Option.exportName, Buffer.from(name)));
    const wanted = 10 + (this.#noZeroes ? 0 : exportNamePadding);
    let answer = this.#decoder.raw(wanted);
    while (answer === undefined) {
      this.#decoder.push(await this.#channel.receive());
      answer = this.#decoder.raw(wanted);
    }
    return { ...this.#agreed(structured, allocationId), ...decodeExport(answer), blockSizes: undefined };
  }

  #agreed(structured: boolean, allocationId: number | undefined) {
    return { socket: this.socket, structured, allocationId, rest: this.#decoder.rest() };
  }

  #needNoTls(reply: OptionReplyMessage): void {
    if (reply.type === OptionReply.errorTlsRequired)
      throw fail("NBD_TLS_REQUIRED", { address: this.#address });
  }

  #refused(option: number, reply: OptionReplyMessage) {
    this.#needNoTls(reply);
    return fail("NBD_REFUSED", {
      address: this.#address,
      option: optionName(option),
      why: refusalOf(reply),
    });
  }

  async #ask(option: number): Promise<OptionReplyMessage> {
    return (await this.#askAll(option)).at(-1) as OptionReplyMessage;
  }

  /** All replies to an option; the last is its end. */
  async #askAll(option: number, data?: Uint8Array): Promise<OptionReplyMessage[]> {
    await this.#channel.send(encodeOption(option, data));
    const replies: OptionReplyMessage[] = [];
    for (;;) {
      const reply = (await this.#next()) as OptionReplyMessage;
      if (reply.option !== option) throw new ProtocolError(`an answer to option ${reply.option}`);
      replies.push(reply);
      if (reply.type === OptionReply.ack || isErrorReply(reply.type)) return replies;
      if (replies.length > maxReplies) throw new ProtocolError("endless answers");
    }
  }

  async #next(): Promise<Greeting | OptionReplyMessage> {
    for (;;) {
      const message = this.#decoder.next();
      if (message !== undefined) return message;
      this.#decoder.push(await this.#channel.receive());
    }
  }
}

import type { Socket } from "node:net";
import { Channel } from "./channel.ts";
import type { Export } from "./device.ts";
import { ProtocolError } from "./errors.ts";
import {
  type BlockSizes,
  type ClientFlags,
  decodeInfoRequest,
  decodeMetaContextRequest,
  encodeExport,
  encodeGreeting,
  encodeInfo,
  encodeMetaContext,
  encodeOptionReply,
  encodeServer,
  type InfoItem,
  OptionDecoder,
  type OptionMessage,
} from "./handshake-codec.ts";
import {
  allocationContext,
  exportNamePadding,
  Info,
  maxStringBytes,
  Option,
  OptionReply,
  TransmissionFlag,
} from "./protocol.ts";
import { acceptTls, type TlsIdentity } from "./tls.ts";

export interface NegotiationOptions {
  /** What there is now, by name. */
  exports(): ReadonlyMap<string, Export>;
  /** Given: nothing is told or served before TLS, and STARTTLS presents this. */
  tls: (() => TlsIdentity) | undefined;
  maxPayloadBytes: number;
}

/** What client and server agreed on. */
export interface Negotiated {
  /** Another than at first, where TLS came between. */
  socket: Socket;
  export: Export;
  /** As the client was told. */
  sizeBytes: number;
  structured: boolean;
  allocationId: number | undefined;
  /** What the client sent behind its last option. */
  rest: Buffer;
}

const allocationId = 1;

interface State {
  structured: boolean;
  /** For which base:allocation was chosen. */
  allocationOf: Export | undefined;
}

/**
 * The server's side of the handshake. Undefined where the client has chosen to leave. Rejects where it broke
 * the protocol or went; the caller destroys the socket then.
 */
export async function negotiate(
  socket: Socket,
  options: NegotiationOptions,
): Promise<Negotiated | undefined> {
  let channel = new Channel(socket);
  let secured = options.tls === undefined;
  let state: State = { structured: false, allocationOf: undefined };
  const decoder = new OptionDecoder();
  await channel.send(encodeGreeting());
  const flags = (await nextMessage(channel, decoder)) as ClientFlags;
  if (!flags.fixedNewstyle && options.tls !== undefined) {
    throw new ProtocolError("a client that cannot do TLS, where TLS is a must");
  }
  for (;;) {
    const message = (await nextMessage(channel, decoder)) as OptionMessage;
    const { option, data } = message;
    const reply = (type: number, bytes?: Uint8Array | string) =>
      channel.send(encodeOptionReply(option, type, bytes));
    if (option === Option.abort) {
      await reply(OptionReply.ack).catch(() => {}); // it may not wait for it
      channel.socket.end();
      return undefined;
    }
    if (option === Option.exportName) {
      const found = data === undefined || !secured ? undefined : find(options.exports(), data.toString());
      // This option has no way to say no.
      if (found === undefined) throw new ProtocolError("EXPORT_NAME with a name that is not here");
      const { sizeBytes } = found.device;
      const answer = encodeExport(sizeBytes, transmissionFlags(found, state.structured));
      const padding = Buffer.alloc(flags.noZeroes ? 0 : exportNamePadding);
      await channel.send(Buffer.concat([answer, padding]));
      return agreed(channel, decoder, { entry: found, sizeBytes }, state);
    }
    if (option === Option.startTls) {
      if (options.tls === undefined) await reply(OptionReply.errorPolicy, "this server has no TLS here");
      else if (secured || data?.length !== 0) await reply(OptionReply.errorInvalid);
      else {
        // What came in clear text must not count as said in TLS.
        if (decoder.rest().length > 0) throw new ProtocolError("bytes behind STARTTLS");
        await reply(OptionReply.ack);
        channel = new Channel(await acceptTls(channel.socket, options.tls()));
        secured = true;
        state = { structured: false, allocationOf: undefined };
      }
    } else if (!secured) await reply(OptionReply.errorTlsRequired, "this server wants TLS first");
    else if (data === undefined) await reply(OptionReply.errorTooBig);
    else if (option === Option.info || option === Option.go) {
      const found = await describe(channel, message.option, data, state, options);
      if (found !== undefined && option === Option.go) return agreed(channel, decoder, found, state);
    } else state = await answer(channel, option, data, state, options);
  }
}

async function nextMessage(channel: Channel, decoder: OptionDecoder): Promise<ClientFlags | OptionMessage> {
  for (;;) {
    const message = decoder.next();
    if (message !== undefined) return message;
    decoder.push(await channel.receive());
  }
}

/** An export, and the size that was told of it. */
interface Found {
  entry: Export;
  sizeBytes: number;
}

function agreed(
  channel: Channel,
  decoder: OptionDecoder,
  { entry, sizeBytes }: Found,
  state: State,
): Negotiated {
  return {
    socket: channel.socket,
    export: entry,
    sizeBytes,
    structured: state.structured,
    allocationId: state.allocationOf === entry ? allocationId : undefined,
    rest: decoder.rest(),
  };
}

/** INFO and GO. Gives the export where there is one. */
async function describe(
  channel: Channel,
  option: number,
  data: Buffer,
  state: State,
  options: NegotiationOptions,
): Promise<Found | undefined> {
  const request = decodeInfoRequest(data);
  if (request === undefined) {
    await channel.send(encodeOptionReply(option, OptionReply.errorInvalid, "malformed"));
    return undefined;
  }
  const found = find(options.exports(), request.name);
  if (found === undefined) {
    await channel.send(encodeOptionReply(option, OptionReply.errorUnknown, "there is no such export"));
    return undefined;
  }
  const { device, description } = found;
  const { sizeBytes } = device;
  const items: InfoItem[] = [
    { type: "export", sizeBytes, flags: transmissionFlags(found, state.structured) },
    { type: "blockSize", ...advertised(device.blockSizes, options.maxPayloadBytes) },
  ];
  if (request.infos.includes(Info.name)) items.push({ type: "name", text: found.name });
  if (request.infos.includes(Info.description) && description !== undefined) {
    items.push({ type: "description", text: description });
  }
  const replies = items.map((item) => encodeOptionReply(option, OptionReply.info, encodeInfo(item)));
  await channel.send(Buffer.concat([...replies, encodeOptionReply(option, OptionReply.ack)]));
  return { entry: found, sizeBytes };
}

/** The options that ask or set one thing. */
async function answer(
  channel: Channel,
  option: number,
  data: Buffer,
  state: State,
  { exports }: NegotiationOptions,
): Promise<State> {
  const replies: Buffer[] = [];
  const reply = (type: number, bytes?: Uint8Array | string) =>
    replies.push(encodeOptionReply(option, type, bytes));
  let next = state;
  if (option === Option.list) {
    if (data.length > 0) reply(OptionReply.errorInvalid, "LIST takes no data");
    else {
      for (const { name, description } of exports().values()) {
        reply(OptionReply.server, encodeServer(name, description ?? ""));
      }
      reply(OptionReply.ack);
    }
  } else if (option === Option.structuredReply) {
    if (data.length > 0) reply(OptionReply.errorInvalid, "STRUCTURED_REPLY takes no data");
    else {
      next = { ...state, structured: true };
      reply(OptionReply.ack);
    }
  } else if (option === Option.listMetaContext || option === Option.setMetaContext) {
    const isSet = option === Option.setMetaContext;
    const request = decodeMetaContextRequest(data);
    // Also where it fails, what was set before counts no more.
    if (isSet) next = { ...state, allocationOf: undefined };
    if (!state.structured) reply(OptionReply.errorInvalid, "structured replies were not chosen");
    else if (request === undefined) reply(OptionReply.errorInvalid, "malformed");
    else if (request === "too big") reply(OptionReply.errorTooBig, "too many queries");
    else {
      const found = find(exports(), request.name);
      if (found === undefined) reply(OptionReply.errorUnknown, "there is no such export");
      else {
        const chosen = found.device.blockStatus !== undefined && selects(request.queries, isSet);
        if (chosen) {
          reply(OptionReply.metaContext, encodeMetaContext(isSet ? allocationId : 0, allocationContext));
          if (isSet) next = { ...state, allocationOf: found };
        }
        reply(OptionReply.ack);
      }
    }
  } else reply(OptionReply.errorUnsupported);
  await channel.send(Buffer.concat(replies));
  return next;
}

/** No query lists everything, but sets nothing; "base:" is a wildcard only in lists. */
function selects(queries: readonly string[], isSet: boolean): boolean {
  if (queries.includes(allocationContext)) return true;
  return !isSet && (queries.length === 0 || queries.includes("base:"));
}

/** The empty name means the only export there is, where none is called so. */
function find(exports: ReadonlyMap<string, Export>, name: string): Export | undefined {
  const found = exports.get(name);
  if (found !== undefined || name !== "" || exports.size !== 1) return found;
  return exports.values().next().value;
}

function transmissionFlags({ device, readOnly }: Export, structured: boolean): number {
  const writable = readOnly !== true && !device.readOnly;
  const set = (condition: boolean | undefined, flag: number) => (condition === true ? flag : 0);
  const zeroes = writable && device.writeZeroes !== undefined;
  return (
    TransmissionFlag.hasFlags |
    TransmissionFlag.sendFlush |
    TransmissionFlag.sendFua |
    set(!writable, TransmissionFlag.readOnly) |
    set(device.rotational, TransmissionFlag.rotational) |
    set(writable && device.trim !== undefined, TransmissionFlag.sendTrim) |
    set(zeroes, TransmissionFlag.sendWriteZeroes | TransmissionFlag.sendFastZero) |
    set(structured, TransmissionFlag.sendDf) |
    set(device.multiConn, TransmissionFlag.canMultiConn) |
    set(device.cache !== undefined, TransmissionFlag.sendCache)
  );
}

/** No larger than what the server takes, and a multiple of the minimum, as the protocol wants it. */
function advertised({ minimum, preferred, maximum }: BlockSizes, maxPayloadBytes: number): BlockSizes {
  const most = Math.min(maximum, maxPayloadBytes);
  return { minimum, preferred, maximum: most - (most % minimum) };
}

export function isExportName(name: string): boolean {
  return Buffer.byteLength(name) <= maxStringBytes && !name.includes("\0");
}

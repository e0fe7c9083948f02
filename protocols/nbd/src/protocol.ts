/**
 * The numbers of the NBD protocol. All integers are big-endian.
 * Source: the NBD project's doc/proto.md, whose names these are without their prefixes.
 */

/** IANA's for NBD. */
export const defaultPort = 10809;

/** ASCII "NBDMAGIC". */
export const greetingMagic = 0x4e42444d41474943n;
/** ASCII "IHAVEOPT". */
export const optionMagic = 0x49484156454f5054n;
export const optionReplyMagic = 0x0003e889045565a9n;
export const requestMagic = 0x25609513;
export const simpleReplyMagic = 0x67446698;
export const structuredReplyMagic = 0x668e33ef;

/** Longest string of the protocol, in bytes. */
export const maxStringBytes = 4096;

/** Neither side may take less than this for an attack. */
export const usualPayloadBytes = 32 * 1024 * 1024;

/** What an old-fashioned EXPORT_NAME is answered with, after size and flags. */
export const exportNamePadding = 124;

export const HandshakeFlag = { fixedNewstyle: 1, noZeroes: 2 } as const;

export const TransmissionFlag = {
  hasFlags: 1 << 0,
  readOnly: 1 << 1,
  sendFlush: 1 << 2,
  sendFua: 1 << 3,
  rotational: 1 << 4,
  sendTrim: 1 << 5,
  sendWriteZeroes: 1 << 6,
  sendDf: 1 << 7,
  canMultiConn: 1 << 8,
  sendCache: 1 << 10,
  sendFastZero: 1 << 11,
} as const;

export const Option = {
  exportName: 1,
  abort: 2,
  list: 3,
  startTls: 5,
  info: 6,
  go: 7,
  structuredReply: 8,
  listMetaContext: 9,
  setMetaContext: 10,
} as const;

export const OptionReply = {
  ack: 1,
  server: 2,
  info: 3,
  metaContext: 4,
  errorUnsupported: 0x80000001,
  errorPolicy: 0x80000002,
  errorInvalid: 0x80000003,
  errorTlsRequired: 0x80000005,
  errorUnknown: 0x80000006,
  errorShutdown: 0x80000007,
  errorTooBig: 0x80000009,
} as const;

export const Info = { export: 0, name: 1, description: 2, blockSize: 3 } as const;

export const Command = {
  read: 0,
  write: 1,
  disconnect: 2,
  flush: 3,
  trim: 4,
  cache: 5,
  writeZeroes: 6,
  blockStatus: 7,
} as const;

export const CommandFlag = { fua: 1, noHole: 2, df: 4, reqOne: 8, fastZero: 16 } as const;

export const ReplyFlag = { done: 1 } as const;

export const ReplyType = {
  none: 0,
  offsetData: 1,
  offsetHole: 2,
  blockStatus: 5,
  error: 0x8001,
  errorOffset: 0x8002,
} as const;

/** Of base:allocation. */
export const StateFlag = { hole: 1, zero: 2 } as const;

export const allocationContext = "base:allocation";

export const Errno = {
  EPERM: 1,
  EIO: 5,
  ENOMEM: 12,
  EINVAL: 22,
  ENOSPC: 28,
  EOVERFLOW: 75,
  ENOTSUP: 95,
  ESHUTDOWN: 108,
} as const;

export type ErrnoName = keyof typeof Errno;

const names = new Map<number, ErrnoName>(
  Object.entries(Errno).map(([name, number]) => [number, name as ErrnoName]),
);

/** The protocol wants an unexpected number taken for EINVAL. */
export function errnoName(number: number): ErrnoName {
  return names.get(number) ?? "EINVAL";
}

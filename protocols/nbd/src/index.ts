export { type CallOptions, NbdClient } from "./client.ts";
export { type ConnectOptions, type ExportInfo, listExports } from "./client-handshake.ts";
export type {
  BlockDevice,
  BlockExtent,
  BlockStatusOptions,
  Export,
  ReadOptions,
  ReadResult,
  WriteOptions,
  Zeroes,
  ZeroOptions,
} from "./device.ts";
export { NbdError, nbdErrors } from "./errors.ts";
export type { BlockSizes } from "./handshake-codec.ts";
export { MemoryDevice, type MemoryDeviceOptions } from "./memory.ts";
export type { ErrnoName } from "./protocol.ts";
export { type ListenOn, NbdServer, type NbdServerOptions, type ServerLimits } from "./server.ts";
export type { ClientTls, TlsIdentity } from "./tls.ts";
export { type NbdAddress, parseNbdUri } from "./uri.ts";

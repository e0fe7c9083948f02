export {
  ApiClient,
  type CallId,
  type JobId,
  type JobOptions,
  pathOf,
  type SocketId,
  type StreamId,
} from "./client.ts";
export {
  bearer,
  type Connection,
  formatToken,
  parseAddress,
  parseToken,
  type TokenParts,
} from "./connection.ts";
export { apiErrors } from "./errors.ts";
export type * from "./generated/operations.ts";
export { operations } from "./generated/operations.ts";
export { EventStreamParser, type StreamMessage } from "./sse.ts";

export { type EmbeddedOptions, EmbeddedStore } from "./embedded.ts";
export { errors as objectErrors } from "./errors.ts";
export type { ConditionalWrite } from "./foreign/conditions.ts";
export type { ForeignOptions } from "./foreign/connection.ts";
export { ForeignStore } from "./foreign/store.ts";
export { type MemoryOptions, MemoryStore } from "./memory.ts";
export type * from "./types.ts";

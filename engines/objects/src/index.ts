export { type EmbeddedOptions, EmbeddedStore } from "./embedded.ts";
export { objectErrors } from "./errors.ts";
export { type MemoryOptions, MemoryStore } from "./memory.ts";
export type { Recovery } from "./recover.ts";
export type { CheckOptions, Finding } from "./store/check.ts";
export type * from "./types.ts";

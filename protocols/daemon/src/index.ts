export { daemonErrors } from "./errors.ts";
export * from "./listen.ts";
export { lockHome, type Role } from "./lock.ts";
export { createLog, LogFile } from "./log.ts";
export { argumentError, type Running, type RunOptions, runDaemon } from "./run.ts";
export { clearSocket, prepareRuntime } from "./runtime.ts";

export { daemonErrors } from "./errors.ts";
export { callJson, type JsonCall, watchEnd } from "./json-client.ts";
export { createJsonServer, type JsonRequest, type JsonRoute } from "./json-server.ts";
export * from "./listen.ts";
export { lockHome, type Role } from "./lock.ts";
export { createLog, LogFile } from "./log.ts";
export { argumentError, type Running, type RunOptions, runDaemon } from "./run.ts";
export { clearSocket, prepareRuntime } from "./runtime.ts";
export * from "./runtime-flags.ts";

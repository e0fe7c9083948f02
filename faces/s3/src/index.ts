export type { Clock, Log, Service } from "./context.ts";
export { keepLifecycle, type LifecycleOptions, runLifecycle } from "./lifecycle.ts";
export { serverOptions, serveS3 } from "./listener.ts";
export type { RequestRecord } from "./record.ts";
export { createS3, type S3Face, type S3Options } from "./server.ts";
export type { Patience } from "./socket-body.ts";

export type { ConsoleAttachment, ConsoleOptions, ExecRequest, ExecSession, LogOptions } from "./types.ts";

export {
  type AgentExecRequest,
  type AgentExecStatus,
  type AgentInterface,
  type AgentOsInfo,
  GuestAgent,
} from "./agent.ts";
export type { AgentCallOptions } from "./agent-channel.ts";
export { type CallOptions, QmpClient } from "./client.ts";
export type { JsonObject } from "./codec.ts";
export type {
  BlockInfo,
  BlockStats,
  MigrationInfo,
  QmpCommands,
  QmpEvent,
  QmpGreeting,
  RunState,
} from "./commands.ts";
export { QmpError, qmpErrors } from "./errors.ts";
export { GuestHelper, type HelperCallOptions } from "./helper-client.ts";
export type { HelperStep, StepResult } from "./helper-codec.ts";
export { connectUnix } from "./socket.ts";

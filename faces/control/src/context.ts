import type { IncomingMessage, Server, ServerResponse } from "node:http";
import type { TypeBoxTypeProvider } from "@fastify/type-provider-typebox";
import { ErrorResponse } from "@skep/api/schemas";
import type { FastifyBaseLogger, FastifyInstance, FastifyReply } from "fastify";
import { type TSchema, Type } from "typebox";
import type { ImageEngine, MachineEngine, StateEngine, StorageEngine, VolumeEngine } from "./engines.ts";
import type { Events } from "./events.ts";
import type { Jobs } from "./jobs.ts";
import type { Metrics } from "./metrics.ts";
import type { Tokens } from "./tokens.ts";

export type App = FastifyInstance<
  Server,
  IncomingMessage,
  ServerResponse,
  FastifyBaseLogger,
  TypeBoxTypeProvider
>;

/** What the routes are given. */
export interface Context {
  machines: MachineEngine;
  states: StateEngine;
  images: ImageEngine;
  storage: StorageEngine;
  volumes: VolumeEngine;
  jobs: Jobs;
  events: Events;
  tokens: Tokens;
  metrics: Metrics;
  log: FastifyBaseLogger;
  version: string;
  home: string;
  startedAt: string;
  /** The TCP address that is listened on, as `HOST:PORT`. */
  listening(): string | null;
  /** Changes it now and for later starts. */
  setListen(address: string | null): Promise<void>;
  /** The CA's fingerprint for new tokens. */
  fingerprint(): Promise<string>;
  /** Ends skepd after the answer has left; machines run on. */
  shutdown(): void;
}

/** Aborted when whoever asked has gone, or has the answer. */
export function untilGone({ raw }: FastifyReply): AbortSignal {
  const gone = new AbortController();
  raw.once("close", () => gone.abort());
  return gone.signal;
}

/** Answers of a route: one good one, and the error's shape for all others. */
export function answers<const S extends number, T extends TSchema>(status: S, schema: T) {
  return { [status]: schema, default: ErrorResponse } as { [K in S]: T } & { default: typeof ErrorResponse };
}

/** The answer of a route that sends bytes of a type. */
export function rawAnswer(type: string, description: string) {
  return {
    200: { description, content: { [type]: { schema: Type.Unknown() } } },
    default: ErrorResponse,
  };
}

export const nameParams = Type.Object({ name: Type.String() });

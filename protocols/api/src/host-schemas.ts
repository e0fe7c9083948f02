/** What is of skepd itself: jobs, events, tokens, what `doctor` finds, versions. */
import { type Static, Type } from "typebox";
import { ErrorResponse, Nullable, strict } from "./parts.ts";

export const Job = Type.Object(
  {
    id: Type.String(),
    kind: Type.String({ description: "machine.create, image.pull, …" }),
    subject: Type.String({ description: "the machine or image it works on" }),
    state: Type.Union([
      Type.Literal("running"),
      Type.Literal("succeeded"),
      Type.Literal("failed"),
      Type.Literal("cancelled"),
    ]),
    progress: Nullable(
      Type.Object({
        phase: Type.String(),
        done: Type.Optional(Type.Number()),
        total: Type.Optional(Type.Number()),
        unit: Type.Optional(Type.Union([Type.Literal("bytes"), Type.Literal("steps")])),
      }),
    ),
    notes: Type.Array(Type.String()),
    error: Nullable(ErrorResponse.properties.error),
    result: Type.Unknown(),
    createdAt: Type.String(),
    finishedAt: Nullable(Type.String()),
  },
  { $id: "Job" },
);
export type Job = Static<typeof Job>;

export const Event = Type.Object(
  {
    id: Type.Integer(),
    time: Type.String(),
    type: Type.String({ description: "machine.state, machine.created, machine.removed, image.…, job.…" }),
    subject: Type.String(),
    data: Type.Unknown(),
  },
  { $id: "Event" },
);
export type Event = Static<typeof Event>;

export const Token = Type.Object(
  {
    id: Type.String(),
    name: Type.String(),
    createdAt: Type.String(),
    expiresAt: Nullable(Type.String()),
    lastUsedAt: Nullable(Type.String()),
  },
  { $id: "Token" },
);
export type Token = Static<typeof Token>;

export const TokenCreate = Type.Object(
  {
    name: Type.String({ minLength: 1, maxLength: 64 }),
    expiresInSeconds: Type.Optional(Type.Number({ exclusiveMinimum: 0 })),
  },
  { ...strict, $id: "TokenCreate" },
);
export const TokenCreated = Type.Object(
  { token: Token, secret: Type.String({ description: "shown once" }) },
  { $id: "TokenCreated" },
);

export const Check = Type.Object(
  {
    name: Type.String(),
    status: Type.Union([Type.Literal("ok"), Type.Literal("warning"), Type.Literal("failed")]),
    detail: Type.String(),
    fix: Nullable(Type.String({ description: "a command, or what to do" })),
  },
  { $id: "Check" },
);
export type Check = Static<typeof Check>;

export const Version = Type.Object(
  {
    version: Type.String(),
    apiVersion: Type.Literal(1),
    pid: Type.Integer(),
    home: Type.String(),
    startedAt: Type.String(),
    listen: Nullable(Type.String()),
  },
  { $id: "Version" },
);
export type Version = Static<typeof Version>;

export const Listen = Type.Object(
  { address: Nullable(Type.String({ description: "HOST:PORT, or null to stop listening on TCP" })) },
  { ...strict, $id: "Listen" },
);
export type Listen = Static<typeof Listen>;
export type TokenCreate = Static<typeof TokenCreate>;
export type TokenCreated = Static<typeof TokenCreated>;

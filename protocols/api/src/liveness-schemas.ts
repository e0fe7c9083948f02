/** Whether a guest does its work: the check that a machine names, what it last said, and what a restart policy did. */
import { type Static, Type } from "typebox";
import { Nullable, strict } from "./parts.ts";

const kind = Type.Union(
  [Type.Literal("agent"), Type.Literal("tcp"), Type.Literal("http"), Type.Literal("command")],
  {
    description:
      "agent: the guest agent answers; tcp: the guest accepts a connection on `port`; http: a GET of `path` on `port` is answered with 200 to 399; command: a line for the guest's /bin/sh, run as root by the agent, ends with 0",
  },
);

/** A check as asked for. */
export const LivenessRequest = Type.Object(
  {
    kind,
    port: Type.Optional(
      Type.Integer({ minimum: 1, maximum: 65535, description: "of the guest; it must be forwarded" }),
    ),
    path: Type.Optional(Type.String({ maxLength: 2048, description: "http: default /" })),
    command: Type.Optional(Type.String({ minLength: 1, maxLength: 16_384 })),
    intervalSeconds: Type.Optional(
      Type.Number({ minimum: 0.1, maximum: 86_400, description: "between two checks; default 10" }),
    ),
    timeoutSeconds: Type.Optional(
      Type.Number({ minimum: 0.1, maximum: 3600, description: "of one check; default 5" }),
    ),
    failures: Type.Optional(
      Type.Integer({ minimum: 1, maximum: 1000, description: "in a row, until it counts; default 3" }),
    ),
    startSeconds: Type.Optional(
      Type.Number({
        minimum: 0,
        maximum: 86_400,
        description:
          "after a start, until the first success; nothing counts before; default 180, emulated 600",
      }),
    ),
  },
  { ...strict, $id: "LivenessRequest" },
);
export type LivenessRequest = Static<typeof LivenessRequest>;

/** A machine's check, as it is kept. */
export const LivenessCheck = Type.Object(
  {
    kind,
    port: Nullable(Type.Integer()),
    path: Nullable(Type.String()),
    command: Nullable(Type.String()),
    intervalSeconds: Type.Number(),
    timeoutSeconds: Type.Number(),
    failures: Type.Integer(),
    startSeconds: Nullable(Type.Number({ description: "null: as long as the accelerator wants" })),
  },
  { $id: "LivenessCheck" },
);
export type LivenessCheck = Static<typeof LivenessCheck>;

/** What the check of a running machine says. */
export const Liveness = Type.Object(
  {
    state: Type.Union([Type.Literal("waiting"), Type.Literal("passing"), Type.Literal("failing")], {
      description: "waiting: it has not succeeded yet since the start",
    }),
    since: Type.String(),
    failures: Type.Integer({ description: "in a row, just now" }),
    why: Nullable(Type.String({ description: "why the last one failed" })),
  },
  { $id: "Liveness" },
);
export type Liveness = Static<typeof Liveness>;

const policy = Type.Union([Type.Literal("no"), Type.Literal("on-failure"), Type.Literal("always")], {
  description:
    "on-failure: QEMU ended by itself, the guest panicked, or its check fails; always: also where the guest shut itself down. What its user stopped stays stopped",
});

export const RestartRequest = Type.Object(
  {
    policy,
    attempts: Type.Optional(
      Type.Integer({
        minimum: 1,
        maximum: 1_000_000,
        description: "on-failure: in a row, then it is given up; default 5",
      }),
    ),
  },
  { ...strict, $id: "RestartRequest" },
);
export type RestartRequest = Static<typeof RestartRequest>;

export const RestartPolicy = Type.Object(
  { policy, attempts: Nullable(Type.Integer({ description: "in a row; null: without end" })) },
  { $id: "RestartPolicy" },
);
export type RestartPolicy = Static<typeof RestartPolicy>;

/** What the policy did since a person started the machine last. */
export const Restarts = Type.Object(
  {
    count: Type.Integer({ description: "restarts since then" }),
    inARow: Type.Integer({ description: "of them, without ten good minutes between" }),
    lastAt: Nullable(Type.String()),
    why: Nullable(Type.String({ description: "why the last one was, or the next one is" })),
    dueAt: Nullable(Type.String({ description: "when it is tried next" })),
    gaveUp: Type.Boolean({ description: "not tried any more, as the policy says" }),
  },
  { $id: "Restarts" },
);
export type Restarts = Static<typeof Restarts>;

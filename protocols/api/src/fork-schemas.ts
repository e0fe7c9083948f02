/** Copies of machines that run: what `fork` takes and tells. */
import { type Static, Type } from "typebox";
import { strict } from "./parts.ts";

export const ForkRequest = Type.Object(
  {
    name: Type.Optional(Type.String({ description: "of the one copy; default: PREFIX-1" })),
    count: Type.Optional(Type.Integer({ minimum: 1, maximum: 10_000, description: "default 1" })),
    prefix: Type.Optional(
      Type.String({ description: "of the copies' names, PREFIX-1 and on; default: the machine's name" }),
    ),
    snapshot: Type.Optional(
      Type.String({
        description: "of the machine, with memory: the copies go on from it; default: from now",
      }),
    ),
    identity: Type.Optional(
      Type.Boolean({
        description:
          "default true: each copy gets its own MAC, names, keys and random numbers before anything in it answers; false: copies keep those of their machine",
      }),
    ),
    force: Type.Optional(Type.Boolean({ description: "also where this host may lack the memory" })),
  },
  { ...strict, $id: "ForkRequest" },
);
export type ForkRequest = Static<typeof ForkRequest>;

/** What became of one part of a copy's identity. */
export const IdentityStep = Type.Object(
  {
    step: Type.String({ description: "seed, clock, mac, hostname, machine-id, instance, ssh host keys, …" }),
    outcome: Type.Union([Type.Literal("done"), Type.Literal("skipped"), Type.Literal("failed")], {
      description: "skipped: the guest has no such thing",
    }),
    why: Type.Union([Type.String(), Type.Null()], { description: "where it is not done" }),
  },
  { $id: "IdentityStep" },
);
export type IdentityStep = Static<typeof IdentityStep>;

export const ForkedMachine = Type.Object(
  {
    name: Type.String(),
    id: Type.String(),
    mac: Type.String(),
    ssh: Type.Union([
      Type.Object({ host: Type.String(), port: Type.Integer(), user: Type.String() }),
      Type.Null(),
    ]),
    readyMs: Type.Number({
      description:
        "from the request to the helper's answer that it has its identity; without identity: until it ran",
    }),
    volumes: Type.Array(Type.String(), { description: "its own: clones of the machine's volumes" }),
    identity: Type.Array(IdentityStep, { description: "empty where none was asked for" }),
  },
  { $id: "ForkedMachine" },
);
export type ForkedMachine = Static<typeof ForkedMachine>;

export const ForkResult = Type.Object(
  {
    source: Type.String({ description: "the machine that was forked" }),
    pauseMs: Type.Union([Type.Number(), Type.Null()], {
      description: "how long it stood still; null where it did not run",
    }),
    populatedMiB: Type.Integer({ description: "memory that its guest had touched" }),
    durationMs: Type.Number({ description: "of all of it" }),
    copies: Type.Array(ForkedMachine),
  },
  { $id: "ForkResult" },
);
export type ForkResult = Static<typeof ForkResult>;

/** Machines' states as kept on disk: what `suspend` stores, and how a machine came back from it. */
import { type Static, Type } from "typebox";
import { strict } from "./parts.ts";

/** What is stored of a suspended machine. */
export const Suspension = Type.Object(
  {
    state: Type.String({ description: "id of the stored state: st- and 17 hexadecimal digits" }),
    at: Type.String({ description: "when the guest was stopped" }),
    populatedMiB: Type.Integer({ description: "memory that the guest had touched" }),
    storedBytes: Type.Integer({ description: "what the state takes on disk" }),
    pauseMs: Type.Number({ description: "from the guest's stop until all of it was on stable storage" }),
    idle: Type.Boolean({
      description: "it sleeps because nobody used it: a connection to one of its ports wakes it",
    }),
  },
  { $id: "Suspension" },
);
export type Suspension = Static<typeof Suspension>;

const hooks = {
  hooks: Type.Optional(Type.Boolean({ description: "run the guest's own programs for this; default true" })),
  hookSeconds: Type.Optional(
    Type.Number({ exclusiveMinimum: 0, maximum: 3600, description: "for each of them; default 30" }),
  ),
};

export const SuspendRequest = Type.Object(hooks, { ...strict, $id: "SuspendRequest" });
export type SuspendRequest = Static<typeof SuspendRequest>;

export const ResumeRequest = Type.Object(
  {
    cold: Type.Optional(
      Type.Boolean({ description: "give up the stored memory and boot from the disk, as after a power cut" }),
    ),
    wait: Type.Optional(Type.Boolean({ description: "until ssh or the agent answers" })),
    waitSeconds: Type.Optional(Type.Number({ exclusiveMinimum: 0 })),
    ...hooks,
  },
  { ...strict, $id: "ResumeRequest" },
);
export type ResumeRequest = Static<typeof ResumeRequest>;

/** Machines that are suspended by themselves while nobody uses them, and wake when somebody does. */
import { type Static, Type } from "typebox";
import { Nullable } from "./parts.ts";

/** How long a machine has to be idle until it is suspended. */
export const SuspendAfter = Type.Number({
  minimum: 1,
  maximum: 2_592_000,
  description:
    "suspend it once it was idle for so many seconds; a connection to one of its ports then wakes it",
});

/** How idle a running machine is that is to be suspended when it is. */
export const Idle = Type.Object(
  {
    since: Type.String({ description: "when it was used last, as far as skepd has seen" }),
    busy: Nullable(Type.String({ description: "what keeps it awake just now" })),
    failure: Nullable(
      Type.String({ description: "why it is still awake, although it was idle for long enough" }),
    ),
    retryAt: Nullable(Type.String({ description: "when that is tried again, at the earliest" })),
  },
  { $id: "Idle" },
);
export type Idle = Static<typeof Idle>;

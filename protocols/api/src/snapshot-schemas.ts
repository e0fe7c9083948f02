/** Machines as they stood at one instant: what `snapshot` keeps, and what a restore has done. */
import { type Static, Type } from "typebox";
import { Nullable, strict } from "./parts.ts";

export const MachineSnapshot = Type.Object(
  {
    name: Type.String(),
    machine: Type.String({ description: "the machine's name" }),
    createdAt: Type.String(),
    state: Type.Union([Type.Literal("running"), Type.Literal("suspended"), Type.Literal("stopped")], {
      description: "what the machine was",
    }),
    memory: Nullable(
      Type.Object(
        {
          state: Type.String({ description: "id of the stored state: st- and 17 hexadecimal digits" }),
          populatedMiB: Type.Integer({ description: "memory that the guest had touched" }),
          storedBytes: Type.Integer({ description: "what the state takes on disk" }),
        },
        { description: "null: only its disks are kept" },
      ),
    ),
    disks: Type.Array(Type.Object({ sizeBytes: Type.Integer(), layer: Nullable(Type.String()) }), {
      description: "as the guest saw them, the root disk first; `layer` is a path in skepd's home",
    }),
    volumes: Type.Array(
      Type.Object({
        id: Type.String({ description: "of the volume" }),
        sizeBytes: Type.Integer(),
        snapshot: Type.String({ description: "of the volume, which goes with this one" }),
      }),
      { description: "that were attached" },
    ),
    storedBytes: Type.Integer({
      description: "what its disks' own layers and its memory take; layers below are shared",
    }),
    fileSystemsFrozen: Nullable(
      Type.Boolean({
        description:
          "whether the guest's agent held its file systems still meanwhile; null where there was no need: with memory, or not running",
      }),
    ),
    pauseMs: Nullable(
      Type.Number({ description: "how long the guest stood still; null where it did not run" }),
    ),
    parent: Nullable(Type.String({ description: "the snapshot that the machine had been at before" })),
    current: Type.Boolean({ description: "the machine's disks go on from this one" }),
    problem: Nullable(Type.String({ description: "why it cannot be used" })),
  },
  { $id: "MachineSnapshot" },
);
export type MachineSnapshot = Static<typeof MachineSnapshot>;

export const MachineSnapshotCreate = Type.Object(
  {
    name: Type.Optional(Type.String({ description: "default: snapshot-1 and on" })),
    memory: Type.Optional(
      Type.Boolean({ description: "default true; false: only the disks, also of a machine that runs" }),
    ),
  },
  { ...strict, $id: "MachineSnapshotCreate" },
);
export type MachineSnapshotCreate = Static<typeof MachineSnapshotCreate>;

export const MachineSnapshotRestore = Type.Object(
  {
    discard: Type.Optional(
      Type.Boolean({ description: "default false: what the machine is now is first kept as a snapshot" }),
    ),
    cold: Type.Optional(
      Type.Boolean({ description: "the disks alone: the machine boots from them, as after a power cut" }),
    ),
    wait: Type.Optional(Type.Boolean({ description: "until ssh or the agent answers, where it runs then" })),
    waitSeconds: Type.Optional(Type.Number({ exclusiveMinimum: 0 })),
  },
  { ...strict, $id: "MachineSnapshotRestore" },
);
export type MachineSnapshotRestore = Static<typeof MachineSnapshotRestore>;

/**
 * The control API's resources. One schema validates, serialises, documents (OpenAPI) and types.
 * Units stand in the names: `memoryMiB`, `diskBytes`. Times are ISO 8601 in UTC.
 */
import { type Static, Type } from "typebox";
import { Idle, SuspendAfter } from "./idle-schemas.ts";
import {
  Liveness,
  LivenessCheck,
  LivenessRequest,
  RestartPolicy,
  RestartRequest,
  Restarts,
} from "./liveness-schemas.ts";
import { Arch, Nullable, strict } from "./parts.ts";
import { Suspension } from "./state-schemas.ts";
import { MachineVolume, VolumeReference } from "./volume-schemas.ts";

export * from "./exec-schemas.ts";
export * from "./fork-schemas.ts";
export * from "./host-schemas.ts";
export * from "./idle-schemas.ts";
export * from "./image-schemas.ts";
export * from "./liveness-schemas.ts";
export { Arch, ErrorResponse } from "./parts.ts";
export * from "./snapshot-schemas.ts";
export * from "./state-schemas.ts";
export * from "./storage-schemas.ts";
export * from "./template-schemas.ts";
export * from "./volume-schemas.ts";

/** One forwarded port, as asked for: hostPort 0 means "choose a free one". */
export const PortRequest = Type.Object(
  {
    hostAddress: Type.Optional(Type.String({ description: "default 127.0.0.1" })),
    hostPort: Type.Integer({ minimum: 0, maximum: 65535 }),
    guestPort: Type.Integer({ minimum: 1, maximum: 65535 }),
    protocol: Type.Optional(Type.Union([Type.Literal("tcp"), Type.Literal("udp")])),
  },
  { ...strict, $id: "PortRequest" },
);
export type PortRequest = Static<typeof PortRequest>;

export const Port = Type.Object(
  {
    hostAddress: Type.String(),
    hostPort: Type.Integer(),
    guestPort: Type.Integer(),
    protocol: Type.Union([Type.Literal("tcp"), Type.Literal("udp")]),
    /** True when skep chose the host's port: it may then move if another program takes it. */
    automatic: Type.Boolean(),
  },
  { $id: "Port" },
);
export type Port = Static<typeof Port>;

/** What a new machine shall be. Exactly one of `image`, `from`, `cdrom`, or none for the default image. */
export const MachineRequest = Type.Object(
  {
    name: Type.String(),
    image: Type.Optional(Type.String({ description: "image name or digest" })),
    from: Type.Optional(Type.String({ description: "a stopped machine whose disk is the base" })),
    cdrom: Type.Optional(Type.String({ description: "path of an ISO on skepd's host, booted first" })),
    arch: Type.Optional(Arch),
    cpus: Type.Optional(Type.Integer({ minimum: 1, maximum: 256 })),
    memoryMiB: Type.Optional(Type.Integer({ minimum: 64, maximum: 16_777_216 })),
    diskBytes: Type.Optional(Type.Integer({ minimum: 1 })),
    firmware: Type.Optional(Type.Union([Type.Literal("bios"), Type.Literal("uefi")])),
    ports: Type.Optional(Type.Array(PortRequest, { maxItems: 256 })),
    dataDisks: Type.Optional(
      Type.Array(Type.Object({ sizeBytes: Type.Integer({ minimum: 1 }) }, strict), { maxItems: 16 }),
    ),
    rootVolume: Type.Optional(
      Type.Object(
        { sizeBytes: Type.Optional(Type.Integer({ minimum: 1, description: "default: diskBytes" })) },
        { ...strict, description: "the disk is a new volume, filled from the image" },
      ),
    ),
    volumes: Type.Optional(
      Type.Array(Type.Object({ volume: VolumeReference, readOnly: Type.Optional(Type.Boolean()) }, strict), {
        maxItems: 8,
        description: "attached from the start",
      }),
    ),
    efiVolume: Type.Optional(Type.Boolean({ description: "UEFI variables on a new volume" })),
    sshKeys: Type.Optional(Type.Array(Type.String({ maxLength: 16_384 }), { maxItems: 256 })),
    user: Type.Optional(Type.String({ description: "login user; default: the image's" })),
    userData: Type.Optional(Type.String({ maxLength: 4_194_304 })),
    networkConfig: Type.Optional(Type.String({ maxLength: 262_144 })),
    env: Type.Optional(Type.Record(Type.String(), Type.String({ maxLength: 131_072 }))),
    kernelArguments: Type.Optional(Type.String({ maxLength: 2048 })),
    autostart: Type.Optional(Type.Boolean()),
    restart: Type.Optional(RestartRequest),
    check: Type.Optional(LivenessRequest),
    suspendAfterSeconds: Type.Optional(SuspendAfter),
    telnet: Type.Optional(Type.Boolean()),
    start: Type.Optional(Type.Boolean()),
    cold: Type.Optional(Type.Boolean({ description: "its first start boots, whatever templates there are" })),
    wait: Type.Optional(
      Type.Boolean({ description: "with start: until its check succeeds, or else ssh or the agent answers" }),
    ),
    waitSeconds: Type.Optional(Type.Number({ exclusiveMinimum: 0 })),
  },
  { ...strict, $id: "MachineRequest" },
);
export type MachineRequest = Static<typeof MachineRequest>;

export const MachineState = Type.Union([
  Type.Literal("stopped"),
  Type.Literal("starting"),
  Type.Literal("running"),
  Type.Literal("paused"),
  Type.Literal("stopping"),
  Type.Literal("suspending"),
  Type.Literal("suspended"),
  Type.Literal("resuming"),
  Type.Literal("damaged"),
]);
export type MachineState = Static<typeof MachineState>;

export const Machine = Type.Object(
  {
    id: Type.String(),
    name: Type.String(),
    state: MachineState,
    /** Why it is in this state, where that is not by request: `guest panicked`, `disk full`. */
    reason: Nullable(Type.String()),
    image: Nullable(Type.String()),
    imageDigest: Nullable(Type.String()),
    from: Nullable(Type.String()),
    arch: Arch,
    cpus: Type.Integer(),
    memoryMiB: Type.Integer(),
    diskBytes: Type.Integer(),
    firmware: Type.Union([Type.Literal("bios"), Type.Literal("uefi")]),
    accelerator: Nullable(Type.String()),
    ports: Type.Array(Port),
    dataDisks: Type.Array(Type.Object({ sizeBytes: Type.Integer() })),
    volumes: Type.Array(MachineVolume),
    ssh: Nullable(Type.Object({ host: Type.String(), port: Type.Integer(), user: Type.String() })),
    mac: Type.String(),
    autostart: Type.Boolean(),
    restart: RestartPolicy,
    /** What the policy did; null where it has done nothing. */
    restarts: Nullable(Restarts),
    check: Nullable(LivenessCheck),
    /** What the check says, while the machine runs. */
    liveness: Nullable(Liveness),
    /** Null: it stays awake. */
    suspendAfterSeconds: Nullable(Type.Number()),
    /** While it runs and is to be suspended when it is idle. */
    idle: Nullable(Idle),
    telnetPort: Nullable(Type.Integer()),
    pid: Nullable(Type.Integer()),
    /** True once an ssh handshake or the agent has answered since the last start. */
    ready: Type.Boolean(),
    createdAt: Type.String(),
    startedAt: Nullable(Type.String()),
    /** What is stored of it while it is suspended. */
    suspended: Nullable(Suspension),
    directory: Type.String(),
    sockets: Type.Object({ console: Type.String(), control: Type.String() }),
  },
  { $id: "Machine" },
);
export type Machine = Static<typeof Machine>;

/** What a suspend has done. */
export const SuspendResult = Type.Object(
  {
    machine: Machine,
    durationMs: Type.Number({ description: "of all of it" }),
  },
  { $id: "SuspendResult" },
);
export type SuspendResult = Static<typeof SuspendResult>;

/** How a machine came back: from its memory, by a boot that was asked for (`cold`), or not at all, for it ran. */
export const ResumeResult = Type.Object(
  {
    machine: Machine,
    how: Type.Union([Type.Literal("resumed"), Type.Literal("booted"), Type.Literal("running")]),
    durationMs: Type.Number({ description: "until the guest ran" }),
  },
  { $id: "ResumeResult" },
);
export type ResumeResult = Static<typeof ResumeResult>;

/** What a restore has done. */
export const MachineSnapshotRestored = Type.Object(
  {
    machine: Machine,
    snapshot: Type.String({ description: "that it was set back to" }),
    kept: Nullable(Type.String({ description: "the snapshot of what it was before; null: discarded" })),
    how: Type.Union(
      [Type.Literal("resumed"), Type.Literal("booted"), Type.Literal("suspended"), Type.Literal("stopped")],
      { description: "how it is now: went on where it was, boots from its disk, or rests" },
    ),
    durationMs: Type.Number({ description: "until the guest ran" }),
  },
  { $id: "MachineSnapshotRestored" },
);
export type MachineSnapshotRestored = Static<typeof MachineSnapshotRestored>;

export const MachineEdit = Type.Object(
  {
    cpus: Type.Optional(Type.Integer({ minimum: 1, maximum: 256 })),
    memoryMiB: Type.Optional(Type.Integer({ minimum: 64, maximum: 16_777_216 })),
    diskBytes: Type.Optional(Type.Integer({ minimum: 1 })),
    autostart: Type.Optional(Type.Boolean()),
    restart: Type.Optional(RestartRequest),
    check: Type.Optional(Nullable(LivenessRequest)),
    suspendAfterSeconds: Type.Optional(Nullable(SuspendAfter)),
    user: Type.Optional(Type.String()),
    kernelArguments: Type.Optional(Type.String({ maxLength: 2048 })),
    telnet: Type.Optional(Type.Boolean()),
  },
  { ...strict, $id: "MachineEdit" },
);
export type MachineEdit = Static<typeof MachineEdit>;

export const StartRequest = Type.Object(
  {
    wait: Type.Optional(Type.Boolean()),
    waitSeconds: Type.Optional(Type.Number({ exclusiveMinimum: 0 })),
    cold: Type.Optional(
      Type.Boolean({
        description:
          "boot from the disk: of a suspended machine, and give up its memory; of one that was never started, without a template",
      }),
    ),
  },
  { ...strict, $id: "StartRequest" },
);
export type StartRequest = Static<typeof StartRequest>;

export const StopRequest = Type.Object(
  {
    force: Type.Optional(Type.Boolean({ description: "SIGKILL at once" })),
    timeoutSeconds: Type.Optional(
      Type.Number({ minimum: 0, description: "for ACPI and the agent together" }),
    ),
  },
  { ...strict, $id: "StopRequest" },
);
export type StopRequest = Static<typeof StopRequest>;

export const RemoveRequest = Type.Object(
  {
    force: Type.Optional(Type.Boolean({ description: "stop it first if it runs" })),
    keepVolumes: Type.Optional(Type.Boolean({ description: "also its root and efi volume" })),
  },
  { ...strict, $id: "RemoveRequest" },
);
export type RemoveRequest = Static<typeof RemoveRequest>;

export const MachineStats = Type.Object(
  {
    name: Type.String(),
    time: Type.String(),
    /** CPU seconds used by the QEMU process since its start. */
    cpuSeconds: Type.Number(),
    memoryResidentBytes: Type.Integer(),
    memoryMiB: Type.Integer(),
    diskReadBytes: Type.Integer(),
    diskWrittenBytes: Type.Integer(),
    diskAllocatedBytes: Type.Integer(),
    networkReceivedBytes: Nullable(Type.Integer()),
    networkSentBytes: Nullable(Type.Integer()),
  },
  { $id: "MachineStats" },
);
export type MachineStats = Static<typeof MachineStats>;

export const QemuCommand = Type.Object(
  {
    command: Type.Array(Type.String()),
    directories: Type.Array(Type.String(), { description: "made by a start, removed by a stop" }),
  },
  { $id: "QemuCommand" },
);
export type QemuCommand = Static<typeof QemuCommand>;

/** The control API's resources of volumes. Times are ISO 8601 in UTC; sizes are bytes. */
import { type Static, Type } from "typebox";
import { Nullable, strict } from "./parts.ts";

const Durability = Type.Union([Type.Literal("local"), Type.Literal("remote")], {
  description: "when a flush is answered: once this host's disk has everything, or the store",
});
const Compression = Type.Union([Type.Literal("none"), Type.Literal("zstd")]);
const Iops = Nullable(
  Type.Integer({ minimum: 1, description: "requests a second; each 256 KiB of one count once" }),
);
const Bandwidth = Nullable(Type.Integer({ minimum: 4096, description: "bytes a second" }));
const VolumeName = Type.String({ minLength: 1, maxLength: 48, description: "lower-case letters, digits, -" });

export const VolumeSnapshot = Type.Object(
  {
    id: Type.String({ description: "snap- and 17 hexadecimal digits" }),
    name: Nullable(Type.String()),
    volume: Type.String({ description: "the volume's id" }),
    volumeName: Nullable(Type.String()),
    sizeBytes: Type.Integer(),
    createdAt: Type.String(),
  },
  { $id: "VolumeSnapshot" },
);
export type VolumeSnapshot = Static<typeof VolumeSnapshot>;

export const Volume = Type.Object(
  {
    id: Type.String({ description: "vol- and 17 hexadecimal digits" }),
    name: Nullable(Type.String()),
    state: Type.Union([
      Type.Literal("available"),
      Type.Literal("attached"),
      Type.Literal("elsewhere"),
      Type.Literal("filling"),
      Type.Literal("unreadable"),
    ]),
    machine: Nullable(Type.String({ description: "that it is attached to" })),
    problem: Nullable(Type.String({ description: "what is wrong, for people" })),
    sizeBytes: Type.Integer(),
    storedBytes: Nullable(Type.Integer({ description: "what its own objects take in the store" })),
    walBytes: Type.Integer({ description: "what waits on this host's disk for the store" }),
    durability: Durability,
    compression: Compression,
    encrypted: Type.Boolean(),
    iops: Iops,
    bandwidth: Bandwidth,
    store: Type.Object({
      endpoint: Nullable(Type.String({ description: "null: this host's own object store" })),
      bucket: Type.String(),
    }),
    source: Nullable(Type.Object({ volume: Type.String(), snapshot: Type.String() })),
    owner: Nullable(Type.Object({ host: Type.String(), since: Type.String() })),
    snapshots: Type.Array(VolumeSnapshot),
    createdAt: Type.String(),
    directory: Type.String({ description: "its write-ahead log on skepd's host" }),
    socket: Nullable(Type.String({ description: "where it is served over NBD, under its id" })),
    statistics: Nullable(
      Type.Object(
        {
          clients: Type.Integer(),
          mappedBytes: Type.Integer(),
          chunks: Type.Integer(),
          extents: Type.Integer(),
          mapMemoryBytes: Type.Integer(),
          bytesWritten: Type.Integer(),
          bytesRead: Type.Integer(),
          flushes: Type.Integer(),
          bytesToStore: Type.Integer(),
          bytesFromStore: Type.Integer(),
        },
        { description: "while it is open; counters since then" },
      ),
    ),
  },
  { $id: "Volume" },
);
export type Volume = Static<typeof Volume>;

/** A bucket of any S3. Nothing but `bucket`: this host's own store. */
export const VolumePlace = Type.Object(
  {
    endpoint: Type.Optional(Type.String({ maxLength: 512, description: "URL" })),
    bucket: Type.Optional(Type.String({ maxLength: 63, description: "default: skep-volumes" })),
    region: Type.Optional(Type.String({ maxLength: 64, description: "default: us-east-1" })),
    accessKeyId: Type.Optional(Type.String({ maxLength: 128 })),
    secret: Type.Optional(Type.String({ maxLength: 256, description: "kept sealed" })),
    authority: Type.Optional(Type.String({ maxLength: 262_144, description: "a CA's certificate, PEM" })),
    verify: Type.Optional(Type.Boolean({ description: "false: accept any certificate" })),
  },
  { ...strict, $id: "VolumePlace" },
);
export type VolumePlace = Static<typeof VolumePlace>;

const settings = {
  durability: Type.Optional(Durability),
  compression: Type.Optional(Compression),
  iops: Type.Optional(Iops),
  bandwidth: Type.Optional(Bandwidth),
};

export const VolumeCreate = Type.Object(
  {
    name: Type.Optional(VolumeName),
    sizeBytes: Type.Integer({ minimum: 1, description: "a multiple of 4096" }),
    encrypted: Type.Optional(Type.Boolean()),
    ...settings,
    place: Type.Optional(VolumePlace),
  },
  { ...strict, $id: "VolumeCreate" },
);
export type VolumeCreate = Static<typeof VolumeCreate>;

/** A volume that is in a store and that this host does not know. */
export const VolumeAdopt = Type.Object(
  {
    id: Type.String({ maxLength: 64 }),
    name: Type.Optional(VolumeName),
    place: Type.Optional(VolumePlace),
    takeOver: Type.Optional(
      Type.Boolean({ description: "although another host has it open: that one writes no more" }),
    ),
  },
  { ...strict, $id: "VolumeAdopt" },
);
export type VolumeAdopt = Static<typeof VolumeAdopt>;

export const VolumeEdit = Type.Object(
  { name: Type.Optional(Nullable(VolumeName)), ...settings },
  { ...strict, $id: "VolumeEdit" },
);
export type VolumeEdit = Static<typeof VolumeEdit>;

export const VolumeResize = Type.Object(
  { sizeBytes: Type.Integer({ minimum: 1, description: "a multiple of 4096; volumes only grow" }) },
  { ...strict, $id: "VolumeResize" },
);
export type VolumeResize = Static<typeof VolumeResize>;

export const VolumeAttach = Type.Object(
  {
    machine: Type.String({ maxLength: 64 }),
    readOnly: Type.Optional(Type.Boolean()),
    takeOver: Type.Optional(
      Type.Boolean({ description: "although another host has it open: that one writes no more" }),
    ),
  },
  { ...strict, $id: "VolumeAttach" },
);
export type VolumeAttach = Static<typeof VolumeAttach>;

export const VolumeDetach = Type.Object(
  { force: Type.Optional(Type.Boolean({ description: "although the guest uses it or holds on to it" })) },
  { ...strict, $id: "VolumeDetach" },
);
export type VolumeDetach = Static<typeof VolumeDetach>;

export const VolumeRemove = Type.Object(
  {
    snapshots: Type.Optional(Type.Boolean({ description: "its snapshots with it" })),
    force: Type.Optional(Type.Boolean({ description: "detach it first; also where it cannot be read" })),
  },
  { ...strict, $id: "VolumeRemove" },
);
export type VolumeRemove = Static<typeof VolumeRemove>;

export const SnapshotCreate = Type.Object(
  { name: Type.Optional(VolumeName) },
  { ...strict, $id: "SnapshotCreate" },
);
export type SnapshotCreate = Static<typeof SnapshotCreate>;

export const VolumeClone = Type.Object(
  {
    source: Type.String({
      maxLength: 128,
      description: "a volume, of which a snapshot is taken; or a snapshot: its id, or VOLUME@SNAPSHOT",
    }),
    name: Type.Optional(VolumeName),
    sizeBytes: Type.Optional(Type.Integer({ minimum: 1, description: "not below the source's" })),
    ...settings,
  },
  { ...strict, $id: "VolumeClone" },
);
export type VolumeClone = Static<typeof VolumeClone>;

export const VolumeImport = Type.Object(
  {
    path: Type.String({ maxLength: 4096, description: "a qcow2 or raw disk on skepd's host" }),
    name: Type.Optional(VolumeName),
    sizeBytes: Type.Optional(Type.Integer({ minimum: 1, description: "not below the disk's" })),
    encrypted: Type.Optional(Type.Boolean()),
    ...settings,
    place: Type.Optional(VolumePlace),
  },
  { ...strict, $id: "VolumeImport" },
);
export type VolumeImport = Static<typeof VolumeImport>;

export const VolumeExport = Type.Object(
  {
    path: Type.String({ maxLength: 4096, description: "the file on skepd's host" }),
    format: Type.Optional(Type.Union([Type.Literal("qcow2"), Type.Literal("raw")])),
    force: Type.Optional(Type.Boolean({ description: "replace a file that is there" })),
  },
  { ...strict, $id: "VolumeExport" },
);
export type VolumeExport = Static<typeof VolumeExport>;

export const VolumeCheckReport = Type.Object(
  {
    volume: Type.String(),
    findings: Type.Array(
      Type.Object({
        kind: Type.String({ description: "manifest, map, chunk, block, wal, orphan" }),
        object: Type.String({ description: "the store's key, or the path" }),
        why: Type.String(),
        lost: Type.Array(Type.Object({ offset: Type.Integer(), length: Type.Integer() }), {
          description: "what of the volume cannot be read because of it",
        }),
      }),
    ),
    chunks: Type.Integer(),
    blocks: Type.Integer(),
    bytes: Type.Integer(),
  },
  { $id: "VolumeCheckReport" },
);
export type VolumeCheckReport = Static<typeof VolumeCheckReport>;

export const VolumeReference = Type.String({
  minLength: 1,
  maxLength: 64,
  description: "a volume's id or name",
});

/** A volume as a machine has it. `root` and `efi` belong to the machine, `data` is only attached. */
export const MachineVolume = Type.Object(
  {
    id: Type.String(),
    role: Type.Union([Type.Literal("data"), Type.Literal("root"), Type.Literal("efi")]),
    readOnly: Type.Boolean(),
    sizeBytes: Type.Integer(),
    /** The root port where it is plugged in. */
    slot: Nullable(Type.Integer()),
    /** Where udev shows it in the guest: `/dev/disk/by-id/virtio-vol0123456789abcdef0`. */
    device: Nullable(Type.String()),
    /** The guest was asked to give it up and has not yet. */
    detaching: Type.Boolean(),
  },
  { $id: "MachineVolume" },
);
export type MachineVolume = Static<typeof MachineVolume>;

/**
 * What this face needs of the engines, as they are wired in by skepd. The classes of
 * @skep/machines and @skep/images have these shapes; fault tests bring their own.
 */
import type { Duplex } from "node:stream";
import type { Accounts } from "@skep/accounts";
import type {
  Arch,
  Bucket,
  CatalogEntry,
  Check,
  ForkRequest,
  ForkResult,
  ImageBuild,
  ImageImport,
  ImagePull,
  Machine,
  MachineEdit,
  MachineRequest,
  MachineSnapshot,
  MachineSnapshotCreate,
  MachineSnapshotRestore,
  MachineSnapshotRestored,
  MachineStats,
  MachineVolume,
  ObjectPage,
  Port,
  PortRequest,
  Pruned,
  QemuCommand,
  RemoveRequest,
  ResumeRequest,
  ResumeResult,
  SnapshotCreate,
  StartRequest,
  StopRequest,
  Storage,
  StorageUp,
  SuspendRequest,
  SuspendResult,
  Template,
  TemplateBuild,
  Volume,
  VolumeAdopt,
  VolumeCheckReport,
  VolumeClone,
  VolumeCreate,
  VolumeEdit,
  VolumeExport,
  VolumeImport,
  VolumeRemove,
  VolumeSnapshot,
} from "@skep/api/schemas";
import type { Work } from "@skep/base";
import type { StoredImage } from "@skep/images";
import type { ConsoleAttachment, ConsoleOptions, ExecRequest, ExecSession, LogOptions } from "@skep/machines";

type Maybe<T> = T | Promise<T>;

export interface MachineEngine {
  list(): Machine[];
  get(name: string): Machine;
  create(request: MachineRequest, work: Work): Promise<Machine>;
  /** MACHINE_SUSPENDED where it has to be resumed instead. */
  start(name: string, request: StartRequest, work: Work): Promise<Machine>;
  stop(name: string, request: StopRequest, work: Work): Promise<Machine>;
  restart(name: string, request: StartRequest & StopRequest, work: Work): Promise<Machine>;
  remove(name: string, request: RemoveRequest, work: Work): Promise<void>;
  edit(name: string, edit: MachineEdit, work: Work): Promise<Machine>;
  addPort(name: string, port: PortRequest): Promise<Port[]>;
  removePort(name: string, port: { hostPort: number; protocol: "tcp" | "udp" }): Promise<Port[]>;
  /** At once where it runs, at the next start where it is stopped. */
  attachVolume(
    name: string,
    request: { volume: string; readOnly?: boolean },
    work: Work,
  ): Promise<MachineVolume>;
  /** `volume` is an id or a name. */
  detachVolume(name: string, volume: string, request: { force?: boolean }, work: Work): Promise<void>;
  /** Tells a running guest of a volume that has grown, once its server has. */
  volumeResized(id: string, sizeBytes: number): Promise<void>;
  /** The machine that has a volume. */
  machineOf(volumeId: string): string | undefined;
  stats(name: string): Promise<MachineStats>;
  screenshot(name: string): Promise<Buffer>;
  qemuCommand(name: string): Promise<QemuCommand>;
  logs(name: string, options: LogOptions): AsyncIterable<Uint8Array>;
  console(name: string, options: ConsoleOptions): Promise<ConsoleAttachment>;
  exec(name: string, request: ExecRequest, signal?: AbortSignal): Promise<ExecSession>;
  tunnel(name: string, guestPort: number): Promise<Duplex>;
  sshConfig(): Maybe<string>;
  usedImages(): Map<string, string[]>;
  doctor(): Promise<Check[]>;
}

/** Memory and device state of machines on disk. Each verb waits until no other works on its machine. */
export interface StateEngine {
  /** Cancelled or failed, the machine runs on and nothing of the state is left. */
  suspend(name: string, request: SuspendRequest, work: Work): Promise<SuspendResult>;
  /**
   * Boots from the disk only where `cold` asks for it. Cancelled or failed before the guest ran, the machine is
   * suspended as before.
   */
  resume(name: string, request: ResumeRequest, work: Work): Promise<ResumeResult>;
  /** Has a machine go on that sleeps because nobody used it; nothing happens to any other. */
  wake(name: string): Promise<void>;
  /** Copies a machine with its memory. Cancelled or failed, no copy is left. */
  fork(name: string, request: ForkRequest, work: Work): Promise<ForkResult>;
  /** Of the suspended machines that could not be resumed here, and of damaged states. */
  doctor(thorough: boolean): Promise<Check[]>;
  readonly snapshots: SnapshotEngine;
  readonly templates: TemplateEngine;
}

/** Machines that have booted once, where new ones begin. */
export interface TemplateEngine {
  /** Oldest first. */
  list(): Promise<Template[]>;
  /** Gives the one that is there where it does. Cancelled or failed, nothing is left. */
  build(request: TemplateBuild, work: Work): Promise<Template>;
  /** By id, or all of an image's. Gives the ids. */
  remove(ref: string): Promise<string[]>;
  /** Those of no use; all, if `all` is true. */
  prune(all: boolean): Promise<Pruned>;
}

/** Machines as they stood at one instant. Each verb waits until no other works on its machine. */
export interface SnapshotEngine {
  /** Oldest first. */
  list(machine: string): Promise<MachineSnapshot[]>;
  get(machine: string, snapshot: string): Promise<MachineSnapshot>;
  /** Cancelled or failed, the machine is as it was and there is no snapshot. */
  create(machine: string, request: MachineSnapshotCreate, work: Work): Promise<MachineSnapshot>;
  /** Cancelled or failed before it was set back, the machine is as it was. */
  restore(
    machine: string,
    snapshot: string,
    request: MachineSnapshotRestore,
    work: Work,
  ): Promise<MachineSnapshotRestored>;
  /** Also of one that is damaged; those that were made after it stay as they are. */
  remove(machine: string, snapshot: string, work: Work): Promise<void>;
}

export interface ImageEngine {
  list(): Maybe<StoredImage[]>;
  get(ref: string, arch?: Arch): Maybe<StoredImage>;
  /** The image's manifest as it is stored. */
  manifest(image: StoredImage): Maybe<unknown>;
  pull(request: ImagePull, work: Work): Promise<StoredImage>;
  build(request: ImageBuild, work: Work): Promise<StoredImage>;
  import(request: ImageImport, work: Work): Promise<StoredImage>;
  remove(ref: string, arch: Arch | undefined, usedBy: Map<string, string[]>): Promise<void>;
  prune(inUse: { has(digest: string): boolean }, all?: boolean): Promise<Pruned>;
  catalog(): Maybe<CatalogEntry[]>;
  verify(ref: string): Promise<unknown>;
}

/** A bucket as the store has it: its owner is an account's canonical id. */
export interface OwnedBucket extends Omit<Bucket, "account"> {
  owner: string;
}

/** Object storage. Whatever is asked of it starts it, but for `status`, `metrics` and `doctor`. */
export interface StorageEngine {
  status(): Promise<Storage>;
  start(): Promise<void>;
  up(request: StorageUp): Promise<Storage>;
  down(): Promise<Storage>;
  /** Accounts and keys; opened at the first use. */
  accounts(): Accounts;
  buckets(): Promise<OwnedBucket[]>;
  bucket(name: string): Promise<OwnedBucket>;
  createBucket(name: string, owner: string): Promise<OwnedBucket>;
  removeBucket(name: string): Promise<void>;
  objects(bucket: string, query: Record<string, string>): Promise<ObjectPage>;
  removeObjects(bucket: string, keys: readonly string[]): Promise<void>;
  /** Prometheus' text format; empty while it does not run. */
  metrics(): Promise<string>;
  doctor(thorough: boolean): Promise<Check[]>;
}

/** What `vol gc` has done. */
export interface VolumeGarbage {
  deletedObjects: number;
  deletedBytes: number;
  rewrittenBytes: number;
}

/**
 * Volumes. Each is named by id or name; a snapshot of it by id or name. Whatever is asked of it starts storaged.
 * What is cancelled while the store does not answer fails with CANCELLED, which says so.
 */
export interface VolumeEngine {
  list(): Promise<Volume[]>;
  get(volume: string): Promise<Volume>;
  create(request: VolumeCreate): Promise<Volume>;
  adopt(request: VolumeAdopt): Promise<Volume>;
  edit(volume: string, change: VolumeEdit, signal: AbortSignal): Promise<Volume>;
  /** Served clients have connected anew, and know the size, when it returns. */
  resize(volume: string, sizeBytes: number, work: Work): Promise<Volume>;
  /** Fences the host that has it open. */
  takeOver(volume: string): Promise<void>;
  remove(volume: string, request: VolumeRemove, work: Work): Promise<void>;
  snapshot(volume: string, request: SnapshotCreate, work: Work): Promise<VolumeSnapshot>;
  removeSnapshot(volume: string, snapshot: string, signal: AbortSignal): Promise<void>;
  clone(request: VolumeClone, work: Work): Promise<Volume>;
  collectGarbage(volume: string, work: Work): Promise<VolumeGarbage>;
  check(volume: string, work: Work): Promise<VolumeCheckReport>;
  /** A failed one leaves no volume. */
  import(request: VolumeImport, work: Work): Promise<Volume>;
  /** `source` as a clone's. A failed one leaves no file. */
  export(source: string, request: VolumeExport, work: Work): Promise<{ path: string; bytes: number }>;
  /** Of what is wrong with volumes; nothing where storaged does not run. */
  doctor(): Promise<Check[]>;
}

import { randomBytes, randomUUID } from "node:crypto";
import type { Arch, LivenessCheck, MachineVolume, Port, RestartPolicy } from "@skep/api/schemas";
import { readVersionedJson, SkepError, writeVersionedJson } from "@skep/base";
import type { DiskBase } from "./disk.ts";
import { fail } from "./errors.ts";
import type { FreezingDisk } from "./live-freeze.ts";
import { damagedPolicies, noRestart } from "./liveness.ts";
import { damagedSuspension, type SuspendedState } from "./suspended.ts";

/** The content of `machine.json`. Its QEMU command line is a function of it (argv.ts). */
export interface MachineFile {
  version: 1;
  id: string;
  name: string;
  createdAt: string;
  arch: Arch;
  cpus: number;
  memoryMiB: number;
  firmware: "bios" | "uefi";
  /** Versioned, so that a newer QEMU shows the guest the same board: `pc-q35-7.2`. */
  machineType: string;
  mac: string;
  /** RFC 4122 GUID shown to the guest as its generation (vmgenid). */
  generation: string;
  /** The user and group QEMU runs as where skepd is root; null otherwise. */
  uid: number | null;
  image: { name: string; digest: string } | null;
  from: string | null;
  /** Paths relative to `$SKEP_HOME`, or null where firmware finds the boot loader. */
  boot: { kernel: string; initramfs: string | null; arguments: string } | null;
  /** Arguments of the user, after the image's own. */
  kernelArguments: string;
  /** What the disk is an overlay of, relative to `$SKEP_HOME`; null for a blank disk; no disk at all for `tiny`. */
  disk: { sizeBytes: number; base: DiskBase | null } | null;
  /** Absolute path of an ISO, tried after the disk. */
  cdrom: string | null;
  /** Absent, or null: it began blank. */
  dataDisks: { sizeBytes: number; base?: DiskBase | null }[];
  volumes: VolumeOfMachine[];
  ports: Port[];
  user: string;
  /** Whether an ssh server is expected inside. */
  ssh: boolean;
  seeded: boolean;
  autostart: boolean;
  restart: RestartPolicy;
  check: LivenessCheck | null;
  /** It is suspended once it was idle for so long; null: never. */
  suspendAfterSeconds: number | null;
  telnetPort: number | null;
  /** A copy whose seed still has its source's identity; the next start writes its own. */
  seedOfSource?: boolean;
  /** Its memory and devices, where they are saved or about to be; null otherwise. */
  suspended: SuspendedState | null;
  /** The snapshot that its disks go on from, which may be gone. */
  snapshot?: string | undefined;
  /** When it was set back to that one last; absent: never, or to none. ISO 8601, UTC. */
  setBackAt?: string | undefined;
  /** Its disks are still to be put in place (switch-disks.ts). */
  switching?: true | undefined;
  /** It was never started, and its disk holds nothing but its image: it may begin where a template is (warm-disk.ts). */
  fresh?: true | undefined;
  /** It is beginning so. `base` is what its disk stood on before, and stands on again where that fails. */
  warming?: { base: DiskBase | null } | undefined;
  /** Snapshots that its volumes are still to be set back to (volume-reverts.ts). */
  reverting?: { volume: string; snapshot: string }[] | undefined;
}

/** A volume as `machine.json` has it. `slot` is the spare root port that it is plugged into. */
export type VolumeOfMachine = Omit<MachineVolume, "device">;

/** Where a volume is served; null from before it is asked for until the answer. */
export type ServedVolumes = Record<string, { socket: string; export: string } | null>;

/** What happened to a machine last; in `run.json`. */
export interface RunRecord {
  version: 1;
  startedAt: string;
  bootId: string;
  accelerator: string;
  qemuVersion: string;
  stoppedAt: string | null;
  reason: string | null;
  /** A person asked for its end, which then needs no restart. */
  stopRequested?: boolean;
  /** What storaged was asked to serve for this machine, and not yet to release. */
  served: ServedVolumes;
  /**
   * `frozen` is the id of the frozen machine that its memory is borrowed from; null where it has its own. Let go
   * when QEMU has ended.
   */
  memory: { frozen: string | null };
  /** Whether QEMU has the port of the guest's helper. */
  helper: boolean;
  /** Disks that are being frozen under the running guest; null otherwise. */
  freezing: FreezingDisk[] | null;
}

/** Root ports that are there from the start, for volumes: only those can take one later. */
export const spareSlots = 8;

/** A locally administered unicast address under QEMU's own prefix 52:54:00. */
function newMac(): string {
  return `52:54:00:${[...randomBytes(3)].map((byte) => byte.toString(16).padStart(2, "0")).join(":")}`;
}

export function newIdentity(): Pick<MachineFile, "id" | "mac" | "generation" | "createdAt"> {
  return { id: randomUUID(), mac: newMac(), generation: randomUUID(), createdAt: new Date().toISOString() };
}

export async function readMachineFile(path: string, name: string): Promise<MachineFile> {
  try {
    // Older files know no volumes, and nothing of suspend, restart and checks.
    type Later = "volumes" | "suspended" | "restart" | "check" | "suspendAfterSeconds";
    type Read = Omit<MachineFile, Later> & Partial<MachineFile>;
    const read = await readVersionedJson<Read>(path, 1);
    const file: MachineFile = {
      ...{ volumes: [], suspended: null, restart: noRestart, check: null, suspendAfterSeconds: null },
      ...read,
    };
    const why = damage(file, name);
    if (why !== undefined) throw fail("MACHINE_DAMAGED", { name, path, why: `${path} ${why}` });
    return file;
  } catch (error) {
    if (error instanceof SkepError && error.code === "MACHINE_DAMAGED") throw error;
    const why = error instanceof Error ? error.message : String(error);
    throw fail("MACHINE_DAMAGED", { name, path, why }, { cause: error });
  }
}

function damage(file: MachineFile, name: string): string | undefined {
  if (file.name !== name) return `names the machine "${file.name}"`;
  if (!/^[0-9a-f]{8}-[0-9a-f-]{27}$/.test(file.id ?? "")) return "has no valid id";
  if (file.arch !== "x86_64" && file.arch !== "aarch64") return "has an unknown arch";
  if (!/^([0-9a-f]{2}:){5}[0-9a-f]{2}$/.test(file.mac ?? "")) return "has no valid mac";
  for (const key of ["cpus", "memoryMiB"] as const) {
    if (!Number.isInteger(file[key]) || file[key] < 1) return `has no valid ${key}`;
  }
  for (const key of ["ports", "dataDisks", "volumes"] as const) {
    if (!Array.isArray(file[key])) return `has no valid ${key}`;
  }
  const { suspendAfterSeconds: after } = file;
  if (after !== null && !(typeof after === "number" && after >= 1)) return "has no valid suspendAfterSeconds";
  return damagedSuspension(file.suspended) ?? damagedVolume(file.volumes) ?? damagedPolicies(file);
}

/** They end in QEMU's command line. */
function damagedVolume(volumes: readonly VolumeOfMachine[]): string | undefined {
  const seen = new Set<unknown>();
  for (const { id, role, slot, sizeBytes } of volumes) {
    if (!/^vol-[0-9a-f]{17}$/.test(id ?? "")) return "names a volume by no valid id";
    if (role !== "data" && role !== "root" && role !== "efi") return `has no valid role for ${id}`;
    const place = role === "data" ? slot : role;
    const plugged = Number.isInteger(slot) && (slot as number) >= 0 && (slot as number) < spareSlots;
    if (role === "data" && !plugged) return `has no valid slot for ${id}`;
    if (!Number.isSafeInteger(sizeBytes) || sizeBytes < 0) return `has no valid size for ${id}`;
    if (seen.has(id) || seen.has(place)) return `has ${id}, or its place, twice`;
    seen.add(id).add(place);
  }
  return undefined;
}

export async function writeMachineFile(path: string, file: MachineFile): Promise<void> {
  await writeVersionedJson(path, file);
}

export async function readRunRecord(path: string): Promise<RunRecord | undefined> {
  try {
    type Added = "served" | "memory" | "helper" | "freezing";
    const added: Pick<RunRecord, Added> = {
      served: {},
      memory: { frozen: null },
      helper: false, // an older skepd started it
      freezing: null,
    };
    return { ...added, ...(await readVersionedJson<Omit<RunRecord, Added>>(path, 1)) };
  } catch {
    return undefined; // only tells history: a lost one is no damage
  }
}

/** What machine-id(5) is to be in the guest, so that no two machines share it. */
export function machineIdOf(id: string): string {
  return id.replaceAll("-", "");
}

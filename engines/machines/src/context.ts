import type { KeyedMutex, Work } from "@skep/base";
import type { ImageStore } from "@skep/images";
import type { DamagedMachine } from "./damaged.ts";
import type { DiskBase } from "./disk.ts";
import type { KeyPair } from "./keys.ts";
import type { Machine } from "./machine.ts";
import type { MachineFile } from "./machine-file.ts";
import type { QemuPrograms } from "./qemu.ts";
import type { EndKind } from "./restart-record.ts";
import type { SshConnections } from "./ssh.ts";
import type { VolumeAccess } from "./types.ts";

/** What the room writes its log to; pino's loggers are one. */
export interface Log {
  debug(fields: object, message: string): void;
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
}

export interface MachineEvent {
  type:
    | "machine.created"
    | "machine.state"
    | "machine.ready"
    | "machine.changed"
    | "machine.check"
    | "machine.restart"
    | "machine.removed";
  subject: string;
  data: unknown;
}

/** What every verb is given: the installation it works in. */
export interface Context {
  home: string;
  runtime: string;
  images: ImageStore;
  volumes: VolumeAccess;
  /** Removes a saved state that nobody can resume any more. */
  discardState(id: string): Promise<void>;
  /** What disks stand on that only other rooms' records know of, as snapshots. Where it fails, no layer goes. */
  basesElsewhere(): Promise<(DiskBase | null)[]>;
  /** Saved states that are a machine's beside the one it sleeps on, as those of its snapshots. */
  statesElsewhere(name: string): Promise<string[]>;
  /** Volumes' snapshots that go with a machine, as those of its own snapshots. */
  volumeSnapshotsElsewhere(name: string): Promise<{ volume: string; snapshot: string }[]>;
  /** A machine has let go of a frozen machine's memory, and no other borrows it. */
  frozenUnused(id: string): Promise<void>;
  /**
   * Has a machine that was never started go on from a template, within its turn; its state is `starting`. False: it
   * is as it was, and has to boot.
   */
  startWarm(machine: Machine, work: Work): Promise<boolean>;
  /** Gives back memory of this host that is only kept to be quick. */
  reclaim(): Promise<void>;
  /** Layers that no file or record names yet. */
  held: Set<DiskBase>;
  /** Volumes' snapshots that are being made, by id; no record names them yet. */
  heldSnapshots: Set<string>;
  log: Log;
  programs: QemuPrograms;
  ssh: SshConnections;
  /** All machines by name. */
  machines: Map<string, Machine>;
  damaged: Map<string, DamagedMachine>;
  /** Machines that nobody sees, of which templates are made. */
  hidden: Set<Machine>;
  /** Files of machines that are being made: their ports and users are taken already. */
  pending: Set<MachineFile>;
  /** One verb at a time on a machine, by its name. */
  turns: KeyedMutex;
  /**
   * What is of all machines: `new` while one chooses what no other may have, `layers` while one is
   * made or some are swept, `ssh-config` while it is written.
   */
  locks: KeyedMutex;
  emit(event: MachineEvent): void;
  /** A QEMU has ended, which is not recorded yet; its machine's restart policy is asked. Never fails. */
  ended(machine: Machine, how: EndKind, why: string | null): Promise<void>;
  ownKeys(): Promise<KeyPair>;
}

/** Of all machines, hidden ones and those in the making included: what they name is taken. */
export function allFiles({ machines, hidden, pending }: Context): MachineFile[] {
  return [...[...machines.values(), ...hidden].map(({ file }) => file), ...pending];
}

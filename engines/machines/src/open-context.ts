import { KeyedMutex, type Work } from "@skep/base";
import type { ImageStore } from "@skep/images";
import type { Context, Log, MachineEvent } from "./context.ts";
import type { DiskBase } from "./disk.ts";
import { ownKeyPair } from "./keys.ts";
import type { Machine } from "./machine.ts";
import { homePaths } from "./paths.ts";
import { QemuPrograms } from "./qemu.ts";
import { RestartKeeper } from "./restart.ts";
import type { RestartTimes } from "./restart-record.ts";
import { SshConnections } from "./ssh.ts";
import { writeSshConfig } from "./ssh-config.ts";
import type { VolumeAccess } from "./types.ts";
import { noVolumes } from "./volumes.ts";

export interface MachinesOptions {
  home: string;
  runtime: string;
  images: ImageStore;
  /** Where it is not given, no machine can have one. */
  volumes?: VolumeAccess;
  /** Removes what is saved of a machine that is removed. Where it is not given, none can be suspended. */
  discardState?(id: string): Promise<void>;
  /** Says what disks only other rooms' records stand on, as snapshots. */
  basesElsewhere?(): Promise<(DiskBase | null)[]>;
  /** Says which saved states go with a machine that is removed, beside the one it sleeps on. */
  statesElsewhere?(name: string): Promise<string[]>;
  /** Says which snapshots of volumes go with a machine that is removed. */
  volumeSnapshotsElsewhere?(name: string): Promise<{ volume: string; snapshot: string }[]>;
  /** Removes a frozen machine that nobody borrows memory from any more. */
  frozenUnused?(id: string): Promise<void>;
  log: Log;
  /** Starts a machine from a template, where one fits (context.ts). */
  startWarm?(machine: Machine, work: Work): Promise<boolean>;
  /** Gives back memory that is only kept to be quick. */
  reclaim?(): Promise<void>;
  /** How patient restart policies are. */
  restartTimes?: RestartTimes;
  onEvent(event: MachineEvent): void;
}

/** What every verb of a home's machines is given; no machine is in it yet. */
export function openContext(options: MachinesOptions): { context: Context; keeper: RestartKeeper } {
  const { home, runtime, images, volumes = noVolumes, log, onEvent } = options;
  const { discardState = nothing, frozenUnused = nothing, basesElsewhere = async () => [] } = options;
  const { statesElsewhere = async () => [], startWarm = async () => false } = options;
  const { reclaim = nothing } = options;
  const { volumeSnapshotsElsewhere = async () => [] } = options;
  let keys: ReturnType<typeof ownKeyPair> | undefined;
  const context: Context = {
    home,
    runtime,
    images,
    volumes,
    discardState,
    frozenUnused,
    basesElsewhere,
    statesElsewhere,
    volumeSnapshotsElsewhere,
    startWarm,
    reclaim,
    log,
    programs: new QemuPrograms(),
    ssh: new SshConnections(),
    held: new Set(),
    heldSnapshots: new Set(),
    machines: new Map(),
    damaged: new Map(),
    hidden: new Set(),
    pending: new Set(),
    turns: new KeyedMutex(),
    locks: new KeyedMutex(),
    emit: (event) => {
      for (const { name } of context.hidden) if (name === event.subject) return;
      onEvent(event);
      keeper.noticed(event);
      if (!["machine.state", "machine.ready", "machine.check", "machine.restart"].includes(event.type)) {
        context.locks
          .run("ssh-config", () => writeSshConfig(context))
          .catch((error: unknown) => log.warn({ err: error }, "cannot write the ssh config"));
      }
    },
    ended: (machine, how, why) => keeper.ended(machine, how, why),
    ownKeys: () => {
      keys ??= ownKeyPair(homePaths(home).sshKey);
      keys.catch(() => {
        keys = undefined;
      });
      return keys;
    },
  };
  const keeper = new RestartKeeper(context, options.restartTimes);
  return { context, keeper };
}

async function nothing(): Promise<void> {}

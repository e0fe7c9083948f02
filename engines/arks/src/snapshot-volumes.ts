import { randomBytes } from "node:crypto";
import { readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { newId, readVersionedJson, writeVersionedJson } from "@skep/base";
import { isCode, type Machine, type MarkedVolume, type VolumeOfMachine } from "@skep/machines";
import { isObject, listOf, oneOf, pattern, record } from "./shape.ts";
import { ensureSnapshots, readSnapshots } from "./snapshot-file.ts";

/** A volume as a snapshot of its machine has it: how it was attached, and the snapshot of the volume itself. */
export interface SnapshotVolume
  extends Pick<VolumeOfMachine, "id" | "role" | "readOnly" | "slot" | "sizeBytes"> {
  snapshot: string;
}

/** Of a volume. */
export type VolumeSnapshotName = Pick<MarkedVolume, "volume" | "snapshot">;

/** The guest stands still meanwhile. */
const markLimitMs = 20_000;
/** A store that does not answer holds nobody up for longer; what stays is removed later. */
const undoLimitMs = 20_000;
const suffix = ".volumes";

/**
 * All volumes of a machine at one instant, on their way to be snapshots. Before storaged hears of them a file beside
 * the machine's snapshots names them; after a crash those that no snapshot names are removed (`settleVolumes`).
 */
export class VolumeInstant {
  readonly volumes: readonly SnapshotVolume[];
  readonly #machine: Machine;
  readonly #stem: string;
  readonly #intent: string;
  readonly #mark = randomBytes(9).toString("hex");
  #isOver = false;

  private constructor(machine: Machine, stem: string) {
    this.#machine = machine;
    this.#stem = stem;
    this.#intent = newIntent(stem);
    this.volumes = machine.file.volumes.map(({ id, role, readOnly, slot, sizeBytes }) => {
      return { id, role, readOnly, slot, sizeBytes, snapshot: newId("snap") };
    });
  }

  /** Within a turn of the machine. `stem` is the name of the snapshot that is to be, or any other word. */
  static async plan(machine: Machine, stem: string, signal: AbortSignal): Promise<VolumeInstant> {
    const instant = new VolumeInstant(machine, stem);
    if (instant.volumes.length > 0) {
      await machine.context.volumes.ready(signal);
      await ensureSnapshots(machine.paths.directory);
      await writeIntent(machine, instant.#intent, namesOf(instant.volumes));
      for (const { snapshot } of instant.volumes) machine.context.heldSnapshots.add(snapshot);
    }
    return instant;
  }

  /** While nothing writes to them. */
  async mark(signal: AbortSignal): Promise<void> {
    if (this.volumes.length === 0) return;
    const { context, name } = this.#machine;
    const wanted = namesOf(this.volumes).map((one) => ({ ...one, name: `${name}/${this.#stem}` }));
    const within = AbortSignal.any([signal, AbortSignal.timeout(markLimitMs)]);
    await context.volumes.mark(this.#mark, wanted, within);
  }

  /** Returns when their stores have them. */
  async complete(signal: AbortSignal): Promise<void> {
    if (this.volumes.length > 0) await this.#machine.context.volumes.complete(this.#mark, signal);
  }

  /** Somebody else names them now. */
  async keep(): Promise<void> {
    this.#isOver = true;
    if (this.volumes.length > 0) await forgetIntent(this.#machine, this.#intent);
    this.#letGo();
  }

  /** Unless they are kept. What cannot be removed now is later. */
  async undo(): Promise<void> {
    if (this.#isOver || this.volumes.length === 0) return;
    this.#isOver = true;
    const { context } = this.#machine;
    await context.volumes.abandon(this.#mark).catch((error: unknown) => {
      context.log.warn({ machine: this.#machine.name, err: error }, "cannot give up its volumes' instant");
    });
    await dropVolumes(this.#machine, this.#intent, namesOf(this.volumes));
    this.#letGo();
  }

  #letGo(): void {
    for (const { snapshot } of this.volumes) this.#machine.context.heldSnapshots.delete(snapshot);
  }
}

export function namesOf(volumes: readonly SnapshotVolume[]): VolumeSnapshotName[] {
  return volumes.map(({ id, snapshot }) => ({ volume: id, snapshot }));
}

/** A name for one that nobody has: what an earlier one still has to remove stays known. */
export function newIntent(stem: string): string {
  return `${stem}~${randomBytes(6).toString("hex")}`;
}

function intentPath({ paths }: Machine, intent: string): string {
  return join(paths.directory, "snapshots", `.${intent}${suffix}`);
}

/** Before the record that names them goes, so that a crash does not leave them behind. */
export async function writeIntent(
  machine: Machine,
  intent: string,
  volumes: readonly VolumeSnapshotName[],
): Promise<void> {
  await writeVersionedJson(intentPath(machine, intent), { version: 1, volumes });
}

async function forgetIntent(machine: Machine, intent: string): Promise<void> {
  await rm(intentPath(machine, intent), { force: true });
}

/** Removes volumes' snapshots that an intent names; it stays where one cannot be removed now. Gives those that clones need. */
export async function dropVolumes(
  machine: Machine,
  intent: string,
  volumes: readonly VolumeSnapshotName[],
): Promise<VolumeSnapshotName[]> {
  const { context, name } = machine;
  const needed: VolumeSnapshotName[] = [];
  const signal = AbortSignal.timeout(undoLimitMs);
  let isLeft = false;
  for (const one of volumes) {
    try {
      await context.volumes.dropSnapshot(one.volume, one.snapshot, signal);
    } catch (error) {
      if (isCode(error, "SNAPSHOT_NEEDED")) needed.push(one);
      else {
        isLeft = true;
        context.log.warn({ machine: name, ...one, err: error }, "cannot remove the volume's snapshot now");
      }
    }
  }
  if (!isLeft) await forgetIntent(machine, intent);
  return needed;
}

const shape = record({
  version: oneOf(1),
  volumes: listOf(
    record({ volume: pattern(/^vol-[0-9a-f]{17}$/), snapshot: pattern(/^snap-[0-9a-f]{17}$/) }),
    64,
  ),
});

/**
 * What files beside a machine's snapshots say is to go unless a snapshot names it. `directory` is the machine's. Those
 * that cannot be read stay.
 */
async function readIntents(directory: string): Promise<{ intent: string; volumes: VolumeSnapshotName[] }[]> {
  const inside = join(directory, "snapshots");
  const names: string[] = await readdir(inside).catch(() => []);
  const intents = names.filter((name) => name.startsWith(".") && name.endsWith(suffix));
  const read = await Promise.all(
    intents.map(async (name) => {
      const found: unknown = await readVersionedJson(join(inside, name), 1).catch(() => undefined);
      const isRight = isObject(found) && shape(found, "it") === undefined;
      const intent = name.slice(1, -suffix.length);
      return isRight ? [{ intent, volumes: found.volumes as VolumeSnapshotName[] }] : [];
    }),
  );
  return read.flat();
}

export function isIntent(name: string): boolean {
  return name.startsWith(".") && name.endsWith(suffix);
}

/** Removes what was left of volumes' snapshots that no snapshot of the machine names, and nobody here is about to. */
export async function settleVolumes(machine: Machine): Promise<void> {
  const { name, paths, context } = machine;
  const isHeld = ({ snapshot }: VolumeSnapshotName) => context.heldSnapshots.has(snapshot);
  const intents = (await readIntents(paths.directory)).filter(({ volumes }) => !volumes.some(isHeld));
  if (intents.length === 0) return;
  const { snapshots, damaged } = await readSnapshots(name, paths.directory);
  if (damaged.length > 0) return;
  const named = new Set(snapshots.flatMap(({ volumes = [] }) => volumes.map(({ snapshot }) => snapshot)));
  for (const { intent, volumes } of intents) {
    await dropVolumes(
      machine,
      intent,
      volumes.filter(({ snapshot }) => !named.has(snapshot)),
    );
  }
}

/** Of all snapshots of a machine, and of what was left of some: they go with it. */
export async function volumesOfSnapshots(home: string, machine: string): Promise<VolumeSnapshotName[]> {
  const directory = join(home, "machines", machine);
  const { snapshots } = await readSnapshots(machine, directory);
  const left = await readIntents(directory);
  const all = [
    ...snapshots.flatMap(({ volumes = [] }) => namesOf(volumes)),
    ...left.flatMap(({ volumes }) => volumes),
  ];
  return [...new Map(all.map((one) => [one.snapshot, one])).values()];
}

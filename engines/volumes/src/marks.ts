import { newId } from "@skep/base";
import { type Instant, instantOf } from "./capture.ts";
import type { Core } from "./core.ts";
import { fail } from "./errors.ts";
import { type Manifest, mapKeys } from "./manifest.ts";
import { isSnapshotId, mapNumber } from "./paths.ts";

/** The manifest lists them. */
const mostSnapshots = 1000;

/**
 * A volume's state at one instant that is to become a snapshot. It is in memory only: until the snapshot is in the
 * manifest, nothing in the store speaks of it, so that it goes with the process.
 */
export interface Mark {
  readonly id: string;
  readonly name: string | null;
  readonly at: number;
  readonly sizeBytes: number;
  /** What was captured, until the store has it. */
  instant: Instant | null;
  /** What the snapshot will be, from then on. */
  frozen: FrozenMark | null;
}

export interface FrozenMark {
  manifest: Manifest;
  /** Of the map. */
  version: number;
}

/** In one turn. VOLUME_ID, VOLUME_REVERTING, SNAPSHOT_EXISTS, SNAPSHOT_MANY. */
export function makeMark(core: Core, request: { name?: string; id?: string }): Mark {
  const { env, ownership, marks } = core;
  const { name = null, id = newId("snap", (bytes) => env.random(bytes)) } = request;
  if (!isSnapshotId(id)) throw fail("VOLUME_ID", { id: id.slice(0, 80) });
  if (core.isReverting) throw fail("VOLUME_REVERTING", { id: core.id });
  const { Snapshots, VolumeSize: sizeBytes } = ownership.manifest;
  const others = [...Snapshots.map(({ Id, Name }) => ({ id: Id, name: Name })), ...marks];
  if (others.some((one) => one.id === id || (name !== null && one.name === name))) {
    throw fail("SNAPSHOT_EXISTS", { id: core.id, name: name ?? id });
  }
  if (others.length >= mostSnapshots) throw fail("SNAPSHOT_MANY", { id: core.id, limit: mostSnapshots });
  const mark = { id, name, at: env.clock.now(), sizeBytes, instant: instantOf(core), frozen: null };
  marks.push(mark);
  return mark;
}

/** The first that the store does not have. */
export function waitingMark({ marks }: Core): (Mark & { instant: Instant }) | undefined {
  return marks.find((mark): mark is Mark & { instant: Instant } => mark.instant !== null);
}

/** The durable map stands at its instant. */
export function freezeMark({ ownership, numbers }: Core, mark: Mark): void {
  const manifest = { ...ownership.manifest, VolumeSize: mark.sizeBytes, Owner: null, Snapshots: [] };
  mark.frozen = { manifest, version: numbers.map - 1 };
  mark.instant = null;
}

/** Nobody wants it any more, or the manifest lists it. What only this one needed of the map's objects goes. */
export function dropMark(core: Core, mark: Mark): void {
  const { marks, id, garbage, ownership } = core;
  const at = marks.indexOf(mark);
  if (at < 0) return;
  marks.splice(at, 1);
  if (mark.frozen === null) return;
  const present = new Set(mapKeys(ownership.manifest));
  const inline = mark.frozen.manifest.Map.Inline;
  for (const key of mapKeys(mark.frozen.manifest)) {
    if (key in inline || present.has(key) || !key.startsWith(`${id}/`)) continue;
    if (!isKept(core, key)) garbage.add(key);
  }
}

/** Keys of the map's objects that marks need. */
export function markedKeys({ marks }: Core): string[] {
  return marks.flatMap(({ frozen }) => (frozen === null ? [] : mapKeys(frozen.manifest)));
}

/** Whether a snapshot, or a mark, that was taken while a map's object was in use may name it. */
export function isKept({ ownership, marks }: Core, key: string): boolean {
  const number = mapNumber(key);
  return (
    ownership.manifest.Snapshots.some(({ Version }) => Version >= number) ||
    marks.some(({ frozen }) => frozen !== null && frozen.version >= number)
  );
}

import { join } from "node:path";
import { isErrno, readVersionedJson, writeVersionedJson } from "@skep/base";
import { largestDevice } from "./device.ts";
import { fail } from "./errors.ts";
import { hostShape, machineShape } from "./manifest.ts";
import { atLeastZero, isObject, line, oneOf, orNull, pattern, record, whole } from "./shape.ts";
import type { DeviceForm, HostRecord, SavedMachine } from "./types.ts";

/** `record.json` of a frozen machine: what it is, and whose. */
export interface FrozenRecord {
  version: 1;
  /** The installation's `$SKEP_HOME`; another's are left alone. */
  home: string;
  /** As of a state: `st-` and 17 hexadecimal digits. */
  id: string;
  /** When the guest was stopped; ISO 8601, UTC. */
  createdAt: string;
  machine: SavedMachine;
  host: HostRecord;
  /** Of the raw stream in `device`. */
  device: { form: DeviceForm; bytes: number; sha256: string };
  memoryBytes: number;
  /** Memory that is not a hole of `ram`. */
  populatedBytes: number;
  /** How long the guest stood still. */
  pauseMs: number;
  /** Whether the guest's helper had frozen its services: it wakes up frozen. */
  slicesFrozen: boolean;
  /** The group that may open `ram`, where skepd is root; null otherwise. */
  gid: number | null;
}

const version = 1;

const shape = record({
  version: oneOf(version),
  home: line(4096),
  id: pattern(/^st-[0-9a-f]{17}$/),
  createdAt: pattern(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?Z$/),
  machine: machineShape,
  host: hostShape,
  device: record({
    form: oneOf("migration", "xen"),
    bytes: whole(1, largestDevice),
    sha256: pattern(/^[0-9a-f]{64}$/),
  }),
  memoryBytes: whole(1, Number.MAX_SAFE_INTEGER),
  populatedBytes: whole(0, Number.MAX_SAFE_INTEGER),
  pauseMs: atLeastZero,
  slicesFrozen: oneOf(true, false),
  gid: orNull(whole(0, 2 ** 31 - 1)),
});

function recordPath(directory: string): string {
  return join(directory, "record.json");
}

export async function writeFrozenRecord(directory: string, frozen: FrozenRecord): Promise<void> {
  await writeVersionedJson(recordPath(directory), frozen);
}

/** What a directory says of itself; undefined where it says nothing. STATE_MEMORY where that is no record. */
export async function readFrozenRecord(directory: string): Promise<FrozenRecord | undefined> {
  const path = recordPath(directory);
  const found: unknown = await readVersionedJson(path, version).catch((error: unknown) => {
    if (isErrno(error, "ENOENT")) return undefined;
    throw fail("STATE_MEMORY", { path, why: (error as Error).message }, { cause: error });
  });
  if (found === undefined) return undefined;
  const why = isObject(found) ? shape(found, "it") : "it is no object";
  if (why !== undefined) throw fail("STATE_MEMORY", { path, why });
  return found as unknown as FrozenRecord;
}

import { join } from "node:path";
import { serialName } from "./chunk/names.ts";
import { fail } from "./errors.ts";

/** Names in the store and on this host's disk (FORMAT.md). */

export const isVolumeId = (text: string): boolean => /^vol-[0-9a-f]{17}$/.test(text);
export const isSnapshotId = (text: string): boolean => /^snap-[0-9a-f]{17}$/.test(text);

/** VOLUME_ID. */
export function checkVolumeId(id: string): void {
  if (!isVolumeId(id)) throw fail("VOLUME_ID", { id: id.slice(0, 80) });
}

export const volumePrefix = (id: string): string => `${id}/`;
export const manifestKey = (id: string): string => `${id}/config.json`;
export const snapshotKey = (id: string, snapshot: string): string => `${id}/snapshots/${snapshot}.json`;
export const mapKey = (id: string, epoch: number, number: number): string =>
  `${id}/map/${serialName(epoch, number)}`;

/** What a manifest may name as a map object: of any volume. */
export const isMapKey = (key: string): boolean =>
  /^vol-[0-9a-f]{17}\/map\/[0-9a-f]{8}-[0-9a-f]{8}$/.test(key);

/** The version of the map after the object of that key. */
export const mapNumber = (key: string): number => Number.parseInt(key.slice(-8), 16);

export interface LocalPaths {
  directory: string;
  wal: string;
  lock: string;
}

export function localPaths(volumes: string, id: string): LocalPaths {
  const directory = join(volumes, id);
  return { directory, wal: join(directory, "wal"), lock: join(directory, "lock") };
}

/** An empty file whose name says that the owner with this word is this host. */
export const ownerName = (word: string): string => `owner-${word}`;

/** The words of such files among a directory's names. */
export function ownerWords(names: readonly string[]): string[] {
  return names.flatMap((name) => /^owner-([0-9a-f]{16})$/.exec(name)?.[1] ?? []);
}

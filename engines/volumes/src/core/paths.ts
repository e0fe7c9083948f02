import { join } from "node:path";
import { serialName } from "../chunk/names.ts";
import { fail } from "../errors.ts";

const volumeId = /^vol-[0-9a-f]{17}$/;
const snapshotId = /^snap-[0-9a-f]{17}$/;

/** VOLUME_ID. */
export function checkVolumeId(id: string): string {
  if (!volumeId.test(id)) throw fail("VOLUME_ID", { id: id.slice(0, 64) });
  return id;
}

/** VOLUME_ID. */
export function checkSnapshotId(id: string): string {
  if (!snapshotId.test(id)) throw fail("VOLUME_ID", { id: id.slice(0, 64) });
  return id;
}

export function isVolumeId(id: string): boolean {
  return volumeId.test(id);
}

export function newId(kind: "vol" | "snap", random: (bytes: number) => Uint8Array): string {
  return `${kind}-${Buffer.from(random(9)).toString("hex").slice(1)}`;
}

/** Keys in the store. */
export const manifestKey = (id: string) => `${id}/config.json`;
export const snapshotPrefix = (id: string) => `${id}/snapshots/`;
export const snapshotKey = (id: string, snapshot: string) => `${snapshotPrefix(id)}${snapshot}.json`;
export const mapPrefix = (id: string) => `${id}/map/`;
export const mapObjectKey = (id: string, epoch: number, version: number) =>
  `${mapPrefix(id)}${serialName(epoch, version)}`;

/** On this host, below `$SKEP_HOME/volumes`. */
export const localPaths = (directory: string, id: string) => ({
  directory: join(directory, id),
  wal: join(directory, id, "wal"),
  lock: join(directory, id, "lock"),
});

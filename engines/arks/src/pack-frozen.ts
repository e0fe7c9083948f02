import { rm } from "node:fs/promises";
import { exists, Undo, type Work } from "@skep/base";
import { beginState, commitState } from "./commit.ts";
import { packDevice } from "./device.ts";
import { fail } from "./errors.ts";
import type { Frozen } from "./frozen.ts";
import { writeManifest } from "./manifest.ts";
import { packMemory } from "./pack.ts";
import { stateDirectory } from "./paths.ts";
import { checkRoom } from "./room.ts";
import type { StateManifest } from "./types.ts";

export interface PackedState {
  manifest: StateManifest;
  /** By which other records name the state. */
  digest: string;
  /** Of the whole state. */
  directory: string;
}

/**
 * Stores a frozen machine as a state of the same id, while all machines run on. It is there as a whole once this
 * returns; on failure, or cancelled, nothing is. STATE_DISK_SHORT, STATE_UNWRITABLE where it is there already.
 */
export async function packFrozen(
  frozen: Frozen,
  { home, kind, work }: { home: string; kind: "snapshot" | "template"; work: Work },
): Promise<PackedState> {
  const { id, record, ramPath } = frozen;
  const { machine, host, createdAt, pauseMs, memoryBytes, populatedBytes, slicesFrozen } = record;
  const { signal } = work;
  await checkRoom(home, machine.name, populatedBytes);
  if (await exists(stateDirectory(home, id))) {
    throw fail("STATE_UNWRITABLE", { state: id, why: "it is there already" });
  }
  await using undo = new Undo();
  const { directory } = await beginState(home, id);
  undo.push(() => rm(directory, { recursive: true, force: true }));
  const device = await packDevice({
    from: await frozen.device(),
    form: record.device.form,
    directory,
    signal,
  });
  const memory = await packMemory({
    ramPath,
    memoryBytes,
    directory,
    signal,
    onProgress: (done, total) =>
      work.report({ phase: `storing the memory of ${machine.name}`, done, total, unit: "bytes" }),
  });
  const manifest: StateManifest = {
    version: 1,
    id,
    kind,
    createdAt,
    machine,
    host,
    memory,
    device,
    pauseMs,
    ...(slicesFrozen ? { slicesFrozen } : {}),
  };
  const digest = await writeManifest(directory, manifest);
  signal.throwIfAborted();
  const whole = await commitState(home, id);
  undo.keep();
  return { manifest, digest, directory: whole };
}

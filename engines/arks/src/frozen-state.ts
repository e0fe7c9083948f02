import { open } from "node:fs/promises";
import type { Work } from "@skep/base";
import { unpackDevice } from "./device.ts";
import type { Frozen, FrozenContent, FrozenDraft, FrozenMachines } from "./frozen.ts";
import { readManifest } from "./manifest.ts";
import type { IdleThreads } from "./memory-threads.ts";
import { stateDirectory } from "./paths.ts";
import { damaged } from "./stored.ts";
import type { StateManifest } from "./types.ts";
import { unpackMemory } from "./unpack.ts";

/**
 * The frozen machine of a state: the one that is there, or one that is unpacked from it, every byte verified.
 * The caller disposes of it. `digest` is the one by which the state is known; its owner's record has it.
 * STATE_NOT_FOUND, STATE_VERSION, STATE_DAMAGED, MEMORY_SHORT.
 */
export async function frozenFromState(
  frozen: FrozenMachines,
  { state, digest }: { state: string; digest: string },
  work: Work,
): Promise<Frozen> {
  const directory = stateDirectory(frozen.home, state);
  const found = await readManifest(directory);
  if (found.digest !== digest) {
    throw damaged(directory, "manifest.json", `its digest is ${found.digest} instead of ${digest}`);
  }
  return await frozen.take(state, async (draft) => {
    const { machine, memory } = found.manifest;
    using _promise = await frozen.admit(machine.name, memory.populatedBytes);
    return await unpack(draft, directory, found.manifest, { idle: frozen.idle, work });
  });
}

async function unpack(
  draft: FrozenDraft,
  directory: string,
  manifest: StateManifest,
  { idle, work }: { idle: IdleThreads; work: Work },
): Promise<FrozenContent> {
  const { createdAt, machine, host, memory, device, pauseMs, slicesFrozen = false } = manifest;
  const file = await open(draft.ramPath, "wx", 0o600);
  await file.truncate(memory.bytes).finally(() => file.close());
  await unpackMemory({
    directory,
    manifest,
    into: draft.ramPath,
    idle,
    signal: work.signal,
    onProgress: (done, total) =>
      work.report({ phase: `loading the memory of ${machine.name}`, done, total, unit: "bytes" }),
  });
  const stream = await unpackDevice({ directory, manifest });
  const form = device.form;
  return {
    createdAt,
    machine,
    host,
    device: { form, stream },
    memoryBytes: memory.bytes,
    pauseMs,
    slicesFrozen,
  };
}

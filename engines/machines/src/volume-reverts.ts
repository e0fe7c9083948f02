import type { Machine } from "./machine.ts";

/**
 * Sets volumes back to the snapshots that the machine's file says, before anything is written to them; again after a
 * crash. Within a turn of a machine without QEMU.
 */
export async function finishReverts(machine: Machine, signal?: AbortSignal): Promise<void> {
  const { reverting } = machine.file;
  if (reverting === undefined) return;
  for (const { volume, snapshot } of reverting) {
    signal?.throwIfAborted();
    await machine.context.volumes.revert(volume, snapshot, signal);
  }
  await machine.save({ reverting: undefined });
}

import type { Check } from "@skep/api/schemas";
import { formatSize, SkepError } from "@skep/base";
import { checkState } from "./check.ts";
import { differences } from "./compat.ts";
import { readManifest } from "./manifest.ts";
import { stateDirectory, statePaths } from "./paths.ts";
import { checkStoredFile, damaged } from "./stored.ts";
import type { HostRecord, StateManifest } from "./types.ts";

/** A suspended machine, and the state that its file names. */
export interface SuspendedMachine {
  name: string;
  state: string;
  /** sha256 of the state's manifest. */
  digest: string;
}

/**
 * Of each suspended machine whose state is damaged, or could not be resumed here: what is wrong, and what to do. One
 * line of all others. Damage in what is stored of memory is found only by `thorough`, which reads all of it; missing
 * and shortened files always are.
 *
 * `here` gives what this host would resume it with, taking over from `saved` what only a running QEMU could tell.
 */
export async function diagnoseStates(options: {
  home: string;
  machines: readonly SuspendedMachine[];
  here(name: string, saved: HostRecord): Promise<HostRecord>;
  thorough: boolean;
}): Promise<Check[]> {
  if (options.machines.length === 0) return [];
  const problems: Check[] = [];
  let storedBytes = 0;
  for (const machine of options.machines) {
    const problem = (status: Check["status"], detail: string) =>
      problems.push({
        name: `state of ${machine.name}`,
        status,
        detail,
        fix: `${status === "warning" ? "resume it where it fits, or " : ""}give up its memory and boot from its disk: skep resume ${machine.name} --cold`,
      });
    try {
      const manifest = await readWhole(options.home, machine, options.thorough);
      storedBytes += manifest.memory.packBytes + manifest.device.storedBytes;
      const found = differences(manifest.host, await options.here(machine.name, manifest.host));
      if (found.length > 0) problem("warning", `cannot be resumed on this host: ${found.join("; ")}`);
    } catch (error) {
      if (!(error instanceof SkepError)) throw error;
      problem("failed", error.message);
    }
  }
  const well = options.machines.length - problems.length;
  if (well === 0) return problems;
  const detail = `${well} suspended, with ${formatSize(storedBytes)} stored`;
  return [...problems, { name: "states", status: "ok", detail, fix: null }];
}

/** The manifest of a state that is whole, as far as was looked. STATE_NOT_FOUND, STATE_DAMAGED, STATE_VERSION. */
async function readWhole(home: string, machine: SuspendedMachine, thorough: boolean): Promise<StateManifest> {
  const directory = stateDirectory(home, machine.state);
  const { manifest, digest } = await readManifest(directory);
  if (digest !== machine.digest) throw damaged(directory, "manifest.json", "it is not the machine's");
  const { index, pack, device } = statePaths(directory);
  await checkStoredFile(directory, index, { bytes: manifest.memory.index.bytes });
  await checkStoredFile(directory, pack, { bytes: manifest.memory.packBytes });
  await checkStoredFile(directory, device, { bytes: manifest.device.storedBytes });
  const [first] = thorough ? await checkState(directory) : [];
  if (first !== undefined) throw damaged(directory, first.object, first.why);
  return manifest;
}

import type { Check } from "@skep/api/schemas";
import { formatSize, SkepError } from "@skep/base";
import { checkState } from "./check.ts";
import { differences } from "./compat.ts";
import { readManifest } from "./manifest.ts";
import { stateDirectory, statePaths } from "./paths.ts";
import { checkStoredFile, damaged } from "./stored.ts";
import type { HostRecord, StateManifest } from "./types.ts";

/** A state that a suspended machine sleeps on, or that a snapshot of it has. */
export interface NamedState {
  /** The machine's. */
  name: string;
  snapshot?: string;
  state: string;
  /** sha256 of the state's manifest. */
  digest: string;
}

/**
 * Of each state that is damaged, or could not be used here: what is wrong, and what to do. One line of all others.
 * Damage in what is stored of memory is found only by `thorough`, which reads all of it; missing and shortened files
 * always are.
 *
 * `here` gives what this host would use it with, taking over from `saved` what only a running QEMU could tell.
 */
export async function diagnoseStates(options: {
  home: string;
  states: readonly NamedState[];
  here(named: NamedState, saved: HostRecord): Promise<HostRecord>;
  thorough: boolean;
}): Promise<Check[]> {
  if (options.states.length === 0) return [];
  const problems: Check[] = [];
  const well: NamedState[] = [];
  // A snapshot of a machine that sleeps names the state that it sleeps on.
  const storedBytes = new Map<string, number>();
  for (const named of options.states) {
    try {
      const { host, memory, device } = await readWhole(options.home, named, options.thorough);
      const found = differences(host, await options.here(named, host));
      if (found.length > 0) {
        const verb = named.snapshot === undefined ? "resumed" : "restored with its memory";
        problems.push(problemOf(named, "warning", `cannot be ${verb} on this host: ${found.join("; ")}`));
        continue;
      }
      well.push(named);
      storedBytes.set(named.state, memory.packBytes + device.storedBytes);
    } catch (error) {
      if (!(error instanceof SkepError)) throw error;
      problems.push(problemOf(named, "failed", error.message));
    }
  }
  if (well.length === 0) return problems;
  const ofSnapshots = well.filter(({ snapshot }) => snapshot !== undefined).length;
  const suspended = well.length - ofSnapshots;
  const counted = [
    ...(suspended > 0 ? [`${suspended} suspended`] : []),
    ...(ofSnapshots > 0 ? [`${ofSnapshots} of snapshots`] : []),
  ];
  const stored = formatSize([...storedBytes.values()].reduce((sum, bytes) => sum + bytes, 0));
  return [
    ...problems,
    { name: "states", status: "ok", detail: `${counted.join(", ")}, with ${stored} stored`, fix: null },
  ];
}

function problemOf({ name, snapshot }: NamedState, status: Check["status"], detail: string): Check {
  if (snapshot !== undefined) {
    const fix = `restore its disks alone: skep snapshot restore ${name} ${snapshot} --cold; or remove it: skep snapshot rm ${name} ${snapshot}`;
    return { name: `snapshot ${snapshot} of ${name}`, status, detail, fix };
  }
  const elsewhere = status === "warning" ? "resume it where it fits, or " : "";
  const fix = `${elsewhere}give up its memory and boot from its disk: skep resume ${name} --cold`;
  return { name: `state of ${name}`, status, detail, fix };
}

/** The manifest of a state that is whole, as far as was looked. STATE_NOT_FOUND, STATE_DAMAGED, STATE_VERSION. */
async function readWhole(home: string, named: NamedState, thorough: boolean): Promise<StateManifest> {
  const directory = stateDirectory(home, named.state);
  const { manifest, digest } = await readManifest(directory);
  if (digest !== named.digest) throw damaged(directory, "manifest.json", "it is not the machine's");
  const { index, pack, device } = statePaths(directory);
  await checkStoredFile(directory, index, { bytes: manifest.memory.index.bytes });
  await checkStoredFile(directory, pack, { bytes: manifest.memory.packBytes });
  await checkStoredFile(directory, device, { bytes: manifest.device.storedBytes });
  const [first] = thorough ? await checkState(directory) : [];
  if (first !== undefined) throw damaged(directory, first.object, first.why);
  return manifest;
}

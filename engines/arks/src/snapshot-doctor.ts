import type { Check } from "@skep/api/schemas";
import type { NamedState } from "./doctor.ts";
import { readSnapshots } from "./snapshot-file.ts";
import { type Owner, viewSnapshot } from "./snapshot-view.ts";

/** Of one machine's snapshots: what those lack that cannot be restored, and the states of all others, to be looked at. */
export async function diagnoseSnapshots(owner: Owner): Promise<{ checks: Check[]; states: NamedState[] }> {
  const { name: machine, directory } = owner;
  const { snapshots, damaged } = await readSnapshots(machine, directory);
  const problems: { name: string; why: string }[] = [];
  const states: NamedState[] = [];
  for (const snapshot of snapshots) {
    const { name, memory } = snapshot;
    const { problem } = await viewSnapshot(owner, snapshot);
    if (problem !== null) problems.push({ name, why: problem });
    else if (memory !== null) {
      states.push({ name: machine, snapshot: name, state: memory.state, digest: memory.digest });
    }
  }
  const checks = [...problems, ...damaged].map(({ name, why }): Check => {
    const fix = `remove it: skep snapshot rm ${machine} ${name}`;
    return { name: `snapshot ${name} of ${machine}`, status: "failed", detail: why, fix };
  });
  return { checks, states };
}

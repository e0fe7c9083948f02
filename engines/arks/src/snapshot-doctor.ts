import type { Check } from "@skep/api/schemas";
import type { NamedState } from "./doctor.ts";
import { readSnapshots } from "./snapshot-file.ts";
import { type Owner, viewSnapshots } from "./snapshot-view.ts";

/** Of one machine's snapshots: what those lack that cannot be restored, and the states of all others, to be looked at. */
export async function diagnoseSnapshots(owner: Owner): Promise<{ checks: Check[]; states: NamedState[] }> {
  const { name: machine } = owner;
  const checks: Check[] = [];
  for (const { name, problem } of await viewSnapshots(owner)) {
    if (problem === null) continue;
    const fix = `remove it: skep snapshot rm ${machine} ${name}`;
    checks.push({ name: `snapshot ${name} of ${machine}`, status: "failed", detail: problem, fix });
  }
  const told = new Set(checks.map(({ name }) => name));
  const { snapshots } = await readSnapshots(machine, owner.directory);
  const states = snapshots.flatMap(({ name, memory }): NamedState[] =>
    memory === null || told.has(`snapshot ${name} of ${machine}`)
      ? []
      : [{ name: machine, snapshot: name, state: memory.state, digest: memory.digest }],
  );
  return { checks, states };
}

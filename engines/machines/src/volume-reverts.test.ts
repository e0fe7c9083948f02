import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { Machine } from "./machine.ts";
import type { MachineFile } from "./machine-file.ts";
import { finishReverts } from "./volume-reverts.ts";

const wanted = [
  { volume: "vol-00000000000000001", snapshot: "snap-00000000000000001" },
  { volume: "vol-00000000000000002", snapshot: "snap-00000000000000002" },
];

/** A machine whose volumes are to be set back; what was asked of storaged, which fails for some. */
function scene(reverting: MachineFile["reverting"], failing = new Set<string>()) {
  const asked: string[] = [];
  const file = { reverting } as MachineFile;
  const machine = {
    file,
    context: {
      volumes: {
        async revert(volume: string, snapshot: string) {
          if (failing.has(volume)) throw new Error("its store does not answer");
          asked.push(`${volume}@${snapshot}`);
        },
      },
    },
    async save(change: Partial<MachineFile>) {
      Object.assign(file, change);
    },
  } as unknown as Machine;
  return { machine, asked, failing };
}

describe("volumes that a machine's file says are to be set back", () => {
  it("are, and the file says so no more", async () => {
    const { machine, asked } = scene(wanted);
    await finishReverts(machine);
    assert.deepEqual(
      asked,
      wanted.map(({ volume, snapshot }) => `${volume}@${snapshot}`),
    );
    assert.equal(machine.file.reverting, undefined);
    await finishReverts(machine);
    assert.equal(asked.length, 2);
  });

  it("still are to be where one could not be, or somebody has cancelled it", async () => {
    const { machine, asked, failing } = scene(wanted, new Set([wanted[1]?.volume ?? ""]));
    await assert.rejects(finishReverts(machine), /does not answer/);
    assert.deepEqual(machine.file.reverting, wanted);
    failing.clear();
    await assert.rejects(finishReverts(machine, AbortSignal.abort()), { name: "AbortError" });
    assert.equal(asked.length, 1);
    await finishReverts(machine);
    assert.deepEqual([asked.length, machine.file.reverting], [3, undefined]);
  });
});

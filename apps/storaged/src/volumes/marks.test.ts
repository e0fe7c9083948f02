import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { OpenVolume } from "@skep/volumes";
import type { Logger } from "pino";
import { Marks, type WantedMark } from "./marks.ts";
import type { OpenVolumes } from "./open.ts";
import { newRecord, type Records } from "./records.ts";

const { signal } = new AbortController();

/** Volumes in memory: who holds them open, and which snapshots they have. */
class Host {
  readonly held = new Map<string, number>();
  readonly snapshots = new Map<string, string[]>();
  readonly failing = new Set<string>();

  marks(keptMs?: number): Marks {
    const records = {
      find: (id: string) => newRecord(id, { store: { id: null, bucket: "b" }, sizeBytes: 4096 }),
    };
    const open = {
      hold: async ({ id }: { id: string }) => {
        this.held.set(id, (this.held.get(id) ?? 0) + 1);
        return {
          volume: this.#volume(id),
          [Symbol.asyncDispose]: async () => void this.held.set(id, (this.held.get(id) ?? 0) - 1),
        };
      },
    };
    const log = { warn() {}, error() {} } as unknown as Logger;
    const rest = keptMs === undefined ? {} : { keptMs };
    return new Marks({
      records: records as unknown as Records,
      open: open as unknown as OpenVolumes,
      log,
      ...rest,
    });
  }

  #volume(id: string): OpenVolume {
    const of = () => this.snapshots.get(id) ?? [];
    const volume = {
      id,
      info: () => ({ snapshots: of().map((name) => ({ name })) }),
      mark: ({ id: snapshot, name = "unnamed" }: { id: string; name?: string }) => {
        if (this.failing.has(`mark ${id}`)) throw new Error("it cannot be marked");
        return {
          id: snapshot,
          complete: async () => {
            if (this.failing.has(`complete ${id}`)) throw new Error("it cannot be completed");
            this.snapshots.set(id, [...of(), name]);
          },
          abandon() {},
        };
      },
      removeSnapshot: async () => void this.snapshots.set(id, of().slice(0, -1)),
    };
    return volume as unknown as OpenVolume;
  }

  get isIdle(): boolean {
    return [...this.held.values()].every((uses) => uses === 0);
  }
}

const wanted: WantedMark[] = ["vol-1", "vol-2"].map((volume) => ({
  volume,
  snapshot: `snap-${volume}`,
  name: "web/one",
}));

describe("volumes that are kept at one instant", () => {
  it("become snapshots, all of them, and are closed then; a name that is taken is left out", async () => {
    const host = new Host();
    host.snapshots.set("vol-2", ["web/one"]);
    await using marks = host.marks();
    await marks.keep("m", wanted, signal);
    await assert.rejects(marks.keep("m", wanted, signal), { code: "MARK_EXISTS" });
    await marks.complete("m", signal);
    assert.deepEqual([...host.snapshots.values()], [["web/one", "unnamed"], ["web/one"]]);
    assert.ok(host.isIdle);
    await assert.rejects(marks.complete("m", signal), { code: "MARK_UNKNOWN" });
  });

  it("are none where one cannot be marked, or completed", async () => {
    const host = new Host();
    await using marks = host.marks();
    host.failing.add("mark vol-2");
    await assert.rejects(marks.keep("m", wanted, signal), /cannot be marked/);
    host.failing.clear();
    host.failing.add("complete vol-2");
    await marks.keep("m", wanted, signal);
    await assert.rejects(marks.complete("m", signal), /cannot be completed/);
    assert.deepEqual(host.snapshots.get("vol-1"), []);
    assert.ok(host.isIdle);
  });

  it("are given up when nobody completes them, when that is asked for, and at the end", async () => {
    const host = new Host();
    const marks = host.marks(1);
    await marks.keep("late", wanted, signal);
    while (!host.isIdle) await sleep(1);
    await marks.keep("asked", wanted, signal);
    await marks.abandon("asked");
    await marks.abandon("asked");
    assert.ok(host.isIdle);
    await marks[Symbol.asyncDispose]();
    const last = host.marks();
    await last.keep("end", wanted, signal);
    await last[Symbol.asyncDispose]();
    assert.ok(host.isIdle);
    assert.equal(host.snapshots.size, 0);
  });

  it("are not begun for one who has gone", async () => {
    const host = new Host();
    await using marks = host.marks();
    await assert.rejects(marks.keep("m", wanted, AbortSignal.abort()), { name: "AbortError" });
    assert.ok(host.isIdle);
  });
});

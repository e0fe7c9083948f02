/** A tiny guest with a disk, for the tests of its snapshots: what it holds where, and what lies on the host. */
import assert from "node:assert/strict";
import { readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { MachineSnapshot, MachineSnapshotRestored } from "@skep/api/schemas";
import { run, type SkepError } from "@skep/base";
import type { Asked } from "./state-process.ts";
import { killed, StateWorld } from "./state-world.ts";

/** What a guest holds: on its disk, in its memory (no boot brings it back), and the pid of the process that counts. */
export interface Held {
  disk: string;
  memory: string;
  counter: string;
}

const count = 'c=; while [ -z "$c" ]; do c=$(cat /count) || exit; done; echo $c';

export class SnapshotGuest implements AsyncDisposable {
  readonly world: StateWorld;

  private constructor(world: StateWorld) {
    this.world = world;
  }

  /** Machine `web` runs, counts, and holds `one`. */
  static async make(): Promise<SnapshotGuest> {
    const world = await StateWorld.make();
    try {
      const guest = new SnapshotGuest(world);
      await guest.ask({ verb: "create" });
      await guest.write("one");
      const counting = "(i=0; while :; do i=$((i + 1)); echo $i >/count; sleep 0.1; done) >/dev/null 2>&1 &";
      await world.sh(`${counting} echo $! >/counter`);
      return guest;
    } catch (error) {
      await world[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** The same, with snapshot `first` of what it holds. */
  static async withFirst(): Promise<{ guest: SnapshotGuest; first: Held }> {
    const guest = await SnapshotGuest.make();
    try {
      const first = await guest.holds();
      await guest.take("first");
      return { guest, first };
    } catch (error) {
      await guest[Symbol.asyncDispose]();
      throw error;
    }
  }

  get home(): string {
    return this.world.skep.home;
  }

  async ask<T>(asked: Asked): Promise<T> {
    const answer = await this.world.ask<T>(asked);
    assert.ok(answer !== killed);
    return answer;
  }

  /** Asks for what kills the control process; afterwards there is a new one. */
  async killedBy(asked: Asked): Promise<void> {
    assert.equal(await this.world.ask(asked), killed);
    await this.world.open();
  }

  /** On the disk, durable for the guest; and in its memory. */
  async write(text: string): Promise<void> {
    const disk = `printf '%-16s' ${text} | dd of=/dev/vda conv=notrunc,fsync 2>/dev/null`;
    await this.world.sh(`${disk}; echo ${text} >/text`);
  }

  /** Two looks at the count differ. */
  async countsOn(): Promise<void> {
    const [first, last] = (await this.world.sh(`${count}; sleep 1; ${count}`)).split("\n").map(Number);
    assert.ok((last ?? 0) > (first ?? 0), `the count stands at ${last}`);
  }

  async holds(): Promise<Held> {
    const counter = "kill -0 $(cat /counter) && cat /counter";
    const script = `head -c 16 /dev/vda; echo; cat /text || echo; ${counter}`;
    const [disk = "", memory = "", pid = ""] = (
      await this.world.sh(`{ ${script}; } 2>/dev/null || true`)
    ).split("\n");
    return { disk: disk.trim(), memory, counter: pid };
  }

  async take(snapshot: string, memory = true): Promise<MachineSnapshot> {
    return await this.ask({ verb: "snapshot", snapshot, memory });
  }

  async restore(
    snapshot: string,
    more: { discard?: boolean; cold?: boolean } = {},
  ): Promise<MachineSnapshotRestored> {
    return await this.ask({ verb: "restore", snapshot, ...more });
  }

  async remove(snapshot: string): Promise<void> {
    await this.ask({ verb: "remove-snapshot", snapshot });
  }

  async list(): Promise<MachineSnapshot[]> {
    return await this.ask({ verb: "snapshots" });
  }

  /** A restore is refused by the snapshot's name, and nothing of the machine has changed. */
  async refuses(snapshot: string, says: RegExp, more: { cold?: boolean } = {}): Promise<void> {
    const before = [await this.holds(), (await this.list()).map(({ name }) => name)];
    await assert.rejects(this.restore(snapshot, more), (error: SkepError) => {
      assert.match(error.message, says);
      assert.ok(
        error.message.startsWith(`snapshot "${snapshot}" of machine "web" cannot be used: `) ||
          error.message.startsWith(`the memory of snapshot "${snapshot}" of machine "web" cannot be used: `),
        error.message,
      );
      return true;
    });
    assert.deepEqual([await this.holds(), (await this.list()).map(({ name }) => name)], before);
  }

  async statePath(snapshot: string, file: string): Promise<string> {
    const found = (await this.list()).find(({ name }) => name === snapshot);
    return join(this.home, "states", found?.memory?.state ?? "", file);
  }

  async layerPath(snapshot: string): Promise<string> {
    const found = (await this.list()).find(({ name }) => name === snapshot);
    return join(this.home, found?.disks[0]?.layer ?? "");
  }

  /** What lies on this host is exactly what the machine and its snapshots want, and each disk is whole. */
  async checkHost(): Promise<void> {
    const list = await this.list();
    const { suspended, id, state } = await this.world.machine();
    const named = new Set([...list.map(({ memory }) => memory?.state), suspended?.state]);
    named.delete(undefined);
    assert.deepEqual(await readdir(join(this.home, "states")), [...named].sort());
    const records = await readdir(join(this.home, "machines/web/snapshots"));
    assert.deepEqual(
      records.filter((name) => !name.endsWith(".known_hosts")),
      list.map(({ name }) => `${name}.json`).sort(),
    );
    const own = await readdir(join(this.home, "machines/web"));
    assert.deepEqual(
      own.filter((name) => /\.(next|new)$/.test(name)),
      [],
    );
    assert.deepEqual(await this.world.frozen(), []);
    const layers = (await readdir(join(this.home, "layers"))).filter((name) => name.endsWith(".qcow2"));
    for (const name of layers) await run("qemu-img", ["check", "-q", "-U", join(this.home, "layers", name)]);
    await run("qemu-img", ["check", "-q", "-U", join(this.home, "machines/web/data-0.qcow2")]);
    if (state !== "running") return;
    assert.equal((await this.world.skep.qemuPids()).length, 1);
    const running = await readdir(join(this.world.skep.runtime, id.replaceAll("-", "").slice(0, 8)));
    assert.ok(!running.includes("held"), "the guest is still said to be held");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.world[Symbol.asyncDispose]();
  }
}

/** Does to a file what `harm` says, for as long as a test. */
export async function harmed(
  path: string,
  harm: (path: string) => Promise<void>,
  test: () => Promise<void>,
): Promise<void> {
  const kept = `${path}.kept`;
  const bytes = await readFile(path);
  await rename(path, kept);
  await writeFile(path, bytes);
  try {
    await harm(path);
    await test();
  } finally {
    await rm(path, { recursive: true, force: true });
    await rename(kept, path);
  }
}

export async function flipByte(path: string): Promise<void> {
  const bytes = await readFile(path);
  bytes[100] = (bytes[100] as number) ^ 0xff;
  await writeFile(path, bytes);
}

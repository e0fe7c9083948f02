/** A tiny guest with two disks, steered by engines/machines itself, for the tests of what is frozen under it. */
import assert from "node:assert/strict";
import { hash } from "node:crypto";
import { mkdir, readdir, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { quietWork, run } from "@skep/base";
import { ImageStore } from "@skep/images";
import {
  abandonDiskFreeze,
  commitDiskFreeze,
  type DiskBase,
  type DiskFreeze,
  type DiskLayers,
  type LiveMachine,
  type Machine,
  Machines,
  prepareDiskFreeze,
} from "@skep/machines";
import { guestSh } from "./guest-sh.ts";
import { Installation } from "./support.ts";

const name = "web";
const log = { debug() {}, info() {}, warn() {}, error() {} };

export class FrozenGuest implements AsyncDisposable {
  readonly skep: Installation;
  /** Ids of frozen memory that nobody borrows any more. */
  readonly unused: string[] = [];
  #machines: Machines | undefined;

  private constructor(skep: Installation) {
    this.skep = skep;
  }

  /** Machine `web` runs. */
  static async make(): Promise<FrozenGuest> {
    const guest = new FrozenGuest(await Installation.make());
    try {
      await mkdir(guest.skep.runtime, { recursive: true, mode: 0o711 });
      await guest.reopen();
      const dataDisks = [{ sizeBytes: 16 * 1024 ** 2 }, { sizeBytes: 16 * 1024 ** 2 }];
      const request = { name, image: "tiny", memoryMiB: 96, cpus: 1, dataDisks, start: true, wait: true };
      await guest.machines.create(request, quietWork());
      return guest;
    } catch (error) {
      await guest[Symbol.asyncDispose]();
      throw error;
    }
  }

  get machines(): Machines {
    assert.ok(this.#machines !== undefined);
    return this.#machines;
  }

  /** As the next skepd would: it brings in order what the last one left. */
  async reopen(): Promise<void> {
    await this.#machines?.close();
    this.#machines = await Machines.open({
      home: this.skep.home,
      runtime: this.skep.runtime,
      images: new ImageStore({ home: this.skep.home }),
      frozenUnused: async (id) => void this.unused.push(id),
      log,
      onEvent() {},
    });
  }

  within<T>(work: (machine: Machine) => Promise<T>, on = name): Promise<T> {
    return this.machines.withMachine(on, work);
  }

  machine(): Promise<Machine> {
    return this.within(async (it) => it);
  }

  sh(script: string, on = name): Promise<string> {
    return guestSh(this.machines, on, script);
  }

  writeAt(disk: string, words: string, on = name): Promise<string> {
    return this.sh(`echo ${words} | dd of=/dev/${disk} conv=notrunc,fsync 2>/dev/null`, on);
  }

  readAt(disk: string, on = name): Promise<string> {
    return this.sh(`echo 3 >/proc/sys/vm/drop_caches; head -n 1 /dev/${disk}`, on);
  }

  /** The first line that a frozen disk holds, read without any guest. */
  async contentOf(layer: DiskBase | null | undefined): Promise<string> {
    assert.ok(layer);
    const out = join(this.skep.home, "content.raw");
    const copied = ["-U", "-f", "qcow2", "-O", "raw", "bs=512", "count=1"];
    await run("qemu-img", ["dd", ...copied, `if=${join(this.skep.home, layer.path)}`, `of=${out}`]);
    const [line = ""] = (await readFile(out, "latin1")).split("\n");
    await rm(out);
    return line;
  }

  async digest(layer: DiskBase | null | undefined): Promise<string> {
    return hash("sha256", await readFile(join(this.skep.home, layer?.path ?? "")), "hex");
  }

  async freeze(): Promise<DiskLayers> {
    return await this.within(async (it) => {
      const live = it.running();
      const prepared = await prepareDiskFreeze(live);
      await whileStopped(live, () => commitDiskFreeze(live, prepared));
      return prepared.layers;
    });
  }

  async layersLeft(): Promise<number> {
    const files = await readdir(join(this.skep.home, "layers"));
    return files.filter((file) => file.endsWith(".qcow2")).length;
  }

  /** QEMU dies between the transaction and the guest's going on. */
  async loseQemu(of: string, recorded: boolean): Promise<DiskLayers> {
    return await this.within(async (it) => {
      const live = it.running();
      const prepared = await prepareDiskFreeze(live);
      await live.qmp.execute("stop");
      await transaction(live, prepared);
      const { dataDisks } = prepared.layers;
      if (recorded) {
        const standOn = (disk: { sizeBytes: number }, index: number) => ({
          ...disk,
          base: dataDisks[index] ?? null,
        });
        await it.save((file) => ({ dataDisks: file.dataDisks.map(standOn) }));
      }
      process.kill(live.process.pid, "SIGKILL");
      await abandonDiskFreeze(live);
      assert.equal(it.state, "stopped");
      assert.deepEqual(await this.#leftovers(of), []);
      return prepared.layers;
    }, of);
  }

  /** What of a freeze is there beside the disks themselves. */
  async #leftovers(of: string): Promise<string[]> {
    const names = await readdir(join(this.skep.home, "machines", of));
    return names.filter((file) => /\.(new|next)$/.test(file) || /^(root|data-\d)-/.test(file));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#machines?.close();
    await this.skep[Symbol.asyncDispose]();
  }
}

/** The half of a commit that QEMU does. */
export async function transaction({ qmp }: LiveMachine, { disks }: DiskFreeze): Promise<void> {
  const actions = disks.map(({ under, node }) => ({
    type: "blockdev-snapshot" as const,
    data: { node: under, overlay: node },
  }));
  await qmp.execute("transaction", { actions });
}

export async function whileStopped<T>(live: LiveMachine, work: () => Promise<T>): Promise<T> {
  await live.qmp.execute("stop");
  try {
    return await work();
  } finally {
    if (live.alive) await live.qmp.execute("cont");
  }
}

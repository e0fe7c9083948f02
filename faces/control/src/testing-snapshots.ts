/** Snapshots without disks: a list of words for each machine, in memory. */
import type {
  MachineSnapshot,
  MachineSnapshotCreate,
  MachineSnapshotRestore,
  MachineSnapshotRestored,
} from "@skep/api/schemas";
import { SkepError, type Work } from "@skep/base";
import type { SnapshotEngine } from "./engines.ts";
import type { DirectoryMachines } from "./testing.ts";

/** Takes a snapshot named `hang` until that is cancelled. */
export class DirectorySnapshots implements SnapshotEngine {
  readonly #machines: DirectoryMachines;
  readonly #snapshots = new Map<string, MachineSnapshot[]>();

  constructor(machines: DirectoryMachines) {
    this.#machines = machines;
  }

  async list(machine: string): Promise<MachineSnapshot[]> {
    this.#machines.get(machine);
    return this.#snapshots.get(machine) ?? [];
  }

  async get(machine: string, name: string): Promise<MachineSnapshot> {
    const found = (await this.list(machine)).find((one) => one.name === name);
    if (found !== undefined) return found;
    throw new SkepError("SNAPSHOT_NOT_FOUND", `machine "${machine}" has no snapshot "${name}"`, {
      status: 404,
    });
  }

  async create(machine: string, request: MachineSnapshotCreate, work: Work): Promise<MachineSnapshot> {
    const all = await this.list(machine);
    const { name = `snapshot-${all.length + 1}`, memory = true } = request;
    if (all.some((one) => one.name === name)) {
      throw new SkepError("SNAPSHOT_EXISTS", `there is a snapshot "${name}" already`, { status: 409 });
    }
    work.report({ phase: `taking snapshot ${name} of ${machine}` });
    if (name === "hang") {
      await new Promise((_, reject) =>
        work.signal.addEventListener("abort", () => reject(work.signal.reason), { once: true }),
      );
    }
    const runs = this.#machines.get(machine).state === "running";
    const made: MachineSnapshot = {
      name,
      machine,
      createdAt: new Date(0).toISOString(),
      state: runs ? "running" : "stopped",
      memory: runs && memory ? { state: "st-0123456789abcdef0", populatedMiB: 64, storedBytes: 1024 } : null,
      disks: [{ sizeBytes: 1024 ** 3, layer: "layers/x.qcow2" }],
      volumes: [],
      storedBytes: 2048,
      fileSystemsFrozen: runs && !memory ? true : null,
      pauseMs: runs ? 12 : null,
      parent: all.find((one) => one.current)?.name ?? null,
      current: true,
      problem: null,
    };
    this.#snapshots.set(machine, [...all.map((one) => ({ ...one, current: false })), made]);
    return made;
  }

  async restore(
    machine: string,
    name: string,
    { discard = false, cold = false }: MachineSnapshotRestore,
    work: Work,
  ): Promise<MachineSnapshotRestored> {
    const { state, memory } = await this.get(machine, name);
    const kept = discard ? null : (await this.create(machine, { name: "before-restore-1" }, work)).name;
    const all = (await this.list(machine)).map((one) => ({ ...one, current: one.name === name }));
    this.#snapshots.set(machine, all);
    const resumes = memory !== null && !cold;
    this.#machines.setState(machine, resumes ? "running" : "stopped");
    const how = resumes ? "resumed" : state === "running" ? "booted" : "stopped";
    return { machine: this.#machines.get(machine), snapshot: name, kept, how, durationMs: 1 };
  }

  async remove(machine: string, name: string): Promise<void> {
    const { parent } = await this.get(machine, name);
    const left = (await this.list(machine)).filter((one) => one.name !== name);
    const moved = left.map((one) => (one.parent === name ? { ...one, parent } : one));
    this.#snapshots.set(machine, moved);
  }
}

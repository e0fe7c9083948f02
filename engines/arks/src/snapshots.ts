import { readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import type {
  MachineSnapshot,
  MachineSnapshotCreate,
  MachineSnapshotRestore,
  MachineSnapshotRestored,
} from "@skep/api/schemas";
import { checkName, quietWork, type Work } from "@skep/base";
import { abandonSwitch, finishReverts, type Machine, type Machines } from "@skep/machines";
import type { FrozenMachines } from "./frozen.ts";
import { restoreSnapshot } from "./restore.ts";
import { resumeMachine } from "./resume.ts";
import { type SnapshotTools, takeSnapshot } from "./snapshot.ts";
import { readSnapshot, readSnapshots } from "./snapshot-file.ts";
import { freeName } from "./snapshot-names.ts";
import { removeSnapshot } from "./snapshot-remove.ts";
import { type Owner, viewSnapshot, viewSnapshots } from "./snapshot-view.ts";
import { isIntent, settleVolumes } from "./snapshot-volumes.ts";
import type { Reach } from "./standstill.ts";

export interface SnapshotsOptions {
  home: string;
  machines: Machines;
  frozen: FrozenMachines;
  log: { error(fields: object, message: string): void };
  reach: Reach;
}

/** Snapshots of one home's machines. Each verb waits until no other works on its machine. */
export class Snapshots {
  readonly #options: SnapshotsOptions;

  constructor(options: SnapshotsOptions) {
    this.#options = options;
  }

  /** Oldest first. */
  async list(machine: string): Promise<MachineSnapshot[]> {
    return await viewSnapshots(this.#owner(machine));
  }

  /** SNAPSHOT_NOT_FOUND, SNAPSHOT_DAMAGED. */
  async get(machine: string, name: string): Promise<MachineSnapshot> {
    const owner = this.#owner(machine);
    return await viewSnapshot(owner, await readSnapshot(machine, owner.directory, name));
  }

  #owner(name: string): Owner {
    const { home, machines } = this.#options;
    const { directory } = machines.get(name);
    const file = machines.files().files.find((one) => one.name === name);
    return { home, name, directory, current: file?.snapshot ?? null };
  }

  #tools(work: Work): SnapshotTools {
    const { frozen, reach } = this.#options;
    return { work, frozen, reach };
  }

  /** One that runs goes on after a short pause. SNAPSHOT_EXISTS, SNAPSHOT_REFUSED, SNAPSHOT_FAILED. */
  async create(name: string, request: MachineSnapshotCreate, work: Work): Promise<MachineSnapshot> {
    const { name: wanted, memory = true } = request;
    if (wanted !== undefined) checkName(wanted, "snapshot");
    const take = async (machine: Machine) => {
      const chosen = wanted ?? (await freeName(machine, "snapshot"));
      await takeSnapshot(machine, { name: chosen, memory }, this.#tools(work));
      return chosen;
    };
    const made = await this.#options.machines.withMachine(name, take, work.signal);
    return await this.get(name, made);
  }

  /** Before anything is changed: SNAPSHOT_NOT_FOUND, SNAPSHOT_DAMAGED, SNAPSHOT_MEMORY, RESTORE_REFUSED. */
  async restore(
    name: string,
    snapshot: string,
    request: MachineSnapshotRestore,
    work: Work,
  ): Promise<MachineSnapshotRestored> {
    const { machines } = this.#options;
    const started = performance.now();
    const { kept, how } = await machines.withMachine(
      name,
      (machine) => restoreSnapshot(machine, snapshot, request, this.#tools(work)),
      work.signal,
    );
    const durationMs = Math.round(performance.now() - started);
    const runs = how === "resumed" || how === "booted";
    if (request.wait === true && runs) await machines.waitReady(name, request, work);
    return { machine: machines.get(name), snapshot, kept, how, durationMs };
  }

  /** Those that were made after it stay as they are. SNAPSHOT_NOT_FOUND. */
  async remove(name: string, snapshot: string, work: Work): Promise<void> {
    const { reach } = this.#options;
    const remove = (machine: Machine) => removeSnapshot(machine, snapshot, { reach, work });
    await this.#options.machines.withMachine(name, remove, work.signal);
  }

  /** Finishes or undoes what an earlier process left half done; verbs on those machines wait for it. */
  async recover(): Promise<void> {
    const { machines, log } = this.#options;
    await Promise.all(
      machines.files().files.map(({ name }) =>
        machines.withMachine(name, recoverMachine).catch((error: unknown) => {
          log.error({ machine: name, err: error }, "cannot bring its snapshots in order");
        }),
      ),
    );
  }

  /** What became of a job that an earlier process left half done, once `recover` is over. */
  async recoverJob(
    kind: string,
    name: string,
    request: unknown,
    askedAt: string,
  ): Promise<"finished" | "undone" | undefined> {
    if (!kind.startsWith("machine.snapshot.")) return undefined;
    const file = this.#options.machines.files().files.find((one) => one.name === name);
    if (file === undefined) return "undone";
    const { directory } = this.#owner(name);
    const { name: wanted = null } = (request ?? {}) as { name?: string };
    const { snapshots, damaged } = await readSnapshots(name, directory);
    const all = [...snapshots, ...damaged];
    if (kind === "machine.snapshot.create") {
      const isIts = ({ name: one, createdAt }: { name: string; createdAt: string }) =>
        (wanted === null || one === wanted) && createdAt >= askedAt;
      return all.some(isIts) ? "finished" : "undone";
    }
    if (kind === "machine.snapshot.remove") {
      return all.some((one) => one.name === wanted) ? "undone" : "finished";
    }
    if (file.snapshot !== wanted || (file.setBackAt ?? "") < askedAt) return "undone";
    // What it was set back to had been running, and was to go on.
    const ran = snapshots.some((one) => one.name === wanted && one.state === "running");
    if (ran && file.suspended?.phase === "saved") {
      await this.#options.machines.withMachine(name, (machine) => this.#resume(machine));
    }
    return "finished";
  }

  async #resume(machine: Machine): Promise<void> {
    const { suspended } = machine.file;
    if (suspended?.phase !== "saved" || machine.live !== undefined) return;
    const { frozen, reach } = this.#options;
    await resumeMachine(machine, suspended, { frozen, work: quietWork(), reach });
  }
}

async function recoverMachine(machine: Machine): Promise<void> {
  await abandonSwitch(machine);
  await settleVolumes(machine);
  if (machine.atRest) await finishReverts(machine);
  const directory = join(machine.paths.directory, "snapshots");
  const names: string[] = await readdir(directory).catch(() => []);
  const halfMade = names.filter((name) => {
    const [stem] = name.split(".", 1);
    if (isIntent(name)) return false;
    return stem === "" || (/\.(efi-vars|known_hosts)$/.test(name) && !names.includes(`${stem}.json`));
  });
  for (const name of halfMade) await rm(join(directory, name), { recursive: true, force: true });
}

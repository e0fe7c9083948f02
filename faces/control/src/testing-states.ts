/** States without QEMU: machines are directories (testing.ts), and a suspended one is a word in memory. */
import type {
  ForkRequest,
  ForkResult,
  ResumeRequest,
  ResumeResult,
  SuspendRequest,
  SuspendResult,
} from "@skep/api/schemas";
import { SkepError, type Work } from "@skep/base";
import type { StateEngine } from "./engines.ts";
import type { DirectoryMachines } from "./testing.ts";
import { DirectorySnapshots } from "./testing-snapshots.ts";
import { WordTemplates } from "./testing-templates.ts";
import { untilAborted } from "./testing-work.ts";

const mebibyte = 1024 ** 2;

/** Suspends a machine named `hang` until that is cancelled. */
export class DirectoryStates implements StateEngine {
  readonly #machines: DirectoryMachines;
  readonly snapshots: DirectorySnapshots;
  readonly templates = new WordTemplates();

  constructor(machines: DirectoryMachines) {
    this.#machines = machines;
    this.snapshots = new DirectorySnapshots(machines);
  }

  async suspend(name: string, _request: SuspendRequest, work: Work): Promise<SuspendResult> {
    if (this.#machines.get(name).state !== "running") {
      throw new SkepError("STATE_NOT_RUNNING", `machine "${name}" is not running`, { status: 409 });
    }
    work.report({ phase: `storing the memory of ${name}`, done: 0, total: 128 * mebibyte, unit: "bytes" });
    if (name === "hang") await untilAborted(work.signal);
    this.#machines.setState(name, "suspended");
    return { machine: this.#machines.get(name), durationMs: 1 };
  }

  async resume(name: string, { cold = false }: ResumeRequest): Promise<ResumeResult> {
    const { state } = this.#machines.get(name);
    if (state === "running") return { machine: this.#machines.get(name), how: "running", durationMs: 0 };
    if (state !== "suspended") {
      throw new SkepError("STATE_NOT_SUSPENDED", `machine "${name}" is not suspended`, { status: 409 });
    }
    this.#machines.setState(name, "running");
    return { machine: this.#machines.get(name), how: cold ? "booted" : "resumed", durationMs: 1 };
  }

  async wake(): Promise<void> {}

  /** No memory is copied: its copies are stopped machines that count as running. */
  async fork(
    source: string,
    { name, count = 1, prefix = source }: ForkRequest,
    work: Work,
  ): Promise<ForkResult> {
    if (this.#machines.get(source).state !== "running") {
      throw new SkepError("FORK_REFUSED", `machine "${source}" cannot be forked: it is stopped`, {
        status: 409,
      });
    }
    work.report({ phase: `forking ${source}`, done: 0, total: count, unit: "steps" });
    if (source === "hang") await untilAborted(work.signal);
    const names =
      name === undefined ? Array.from({ length: count }, (_, index) => `${prefix}-${index + 1}`) : [name];
    const copies = [];
    for (const [index, copy] of names.entries()) {
      const { id, mac } = await this.#machines.create({ name: copy }, work);
      await this.#machines.start(copy);
      const ssh = { host: "127.0.0.1", port: 20_001 + index, user: "debian" };
      const identity = [{ step: "seed", outcome: "done" as const, why: null }];
      copies.push({ name: copy, id, mac, ssh, readyMs: 280, volumes: [], identity });
    }
    return { source, pauseMs: 210, populatedMiB: 286, durationMs: 300, copies };
  }

  async doctor() {
    return this.#machines
      .list()
      .filter(({ state }) => state === "suspended")
      .map(({ name }) => ({ name: `state of ${name}`, status: "ok" as const, detail: "whole", fix: null }));
  }
}

/** States without QEMU: machines are directories (testing.ts), and a suspended one is a word in memory. */
import type { ResumeRequest, ResumeResult, SuspendRequest, SuspendResult } from "@skep/api/schemas";
import { SkepError, type Work } from "@skep/base";
import type { StateEngine } from "./engines.ts";
import type { DirectoryMachines } from "./testing.ts";
import { DirectorySnapshots } from "./testing-snapshots.ts";

const mebibyte = 1024 ** 2;

/** Suspends a machine named `hang` until that is cancelled. */
export class DirectoryStates implements StateEngine {
  readonly #machines: DirectoryMachines;
  readonly snapshots: DirectorySnapshots;

  constructor(machines: DirectoryMachines) {
    this.#machines = machines;
    this.snapshots = new DirectorySnapshots(machines);
  }

  async suspend(name: string, _request: SuspendRequest, work: Work): Promise<SuspendResult> {
    if (this.#machines.get(name).state !== "running") {
      throw new SkepError("STATE_NOT_RUNNING", `machine "${name}" is not running`, { status: 409 });
    }
    work.report({ phase: `storing the memory of ${name}`, done: 0, total: 128 * mebibyte, unit: "bytes" });
    if (name === "hang") {
      await new Promise((_, reject) =>
        work.signal.addEventListener("abort", () => reject(work.signal.reason), { once: true }),
      );
    }
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

  async doctor() {
    return this.#machines
      .list()
      .filter(({ state }) => state === "suspended")
      .map(({ name }) => ({ name: `state of ${name}`, status: "ok" as const, detail: "whole", fix: null }));
  }
}

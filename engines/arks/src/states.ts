import type {
  Check,
  ForkRequest,
  ForkResult,
  ResumeRequest,
  ResumeResult,
  SuspendRequest,
  SuspendResult,
} from "@skep/api/schemas";
import type { Work } from "@skep/base";
import type { MachineEvent } from "@skep/machines";
import type { Snapshots } from "./snapshots.ts";
import type { Templates } from "./templates.ts";

/** The states of one home's machines, as the faces see them. */
export interface States extends AsyncDisposable {
  readonly snapshots: Snapshots;
  readonly templates: Templates;
  /**
   * Saves a running machine's memory and devices, and ends its QEMU. Whatever fails before the state is
   * whole leaves the machine running. STATE_NOT_RUNNING, STATE_DISK_SHORT, HOOK_FAILED, HOOKS_UNASKED, or why it could not be saved.
   */
  suspend(name: string, request: SuspendRequest, work: Work): Promise<SuspendResult>;
  /**
   * Has a suspended machine go on where it was. It never boots instead, unless by `cold`, which gives the
   * saved memory up. STATE_NOT_SUSPENDED, STATE_MISFIT, STATE_DAMAGED, and what a start can fail with.
   */
  resume(name: string, request: ResumeRequest, work: Work): Promise<ResumeResult>;
  /**
   * Copies a machine with its memory, which goes on after a short pause: all of the copies, or none. FORK_*,
   * MEMORY_SHORT_COPIES, and what a start or a freeze can fail with.
   */
  fork(name: string, request: ForkRequest, work: Work): Promise<ForkResult>;
  /**
   * Has a machine go on that was suspended because nobody used it, which any use of it does; nothing happens to
   * others. Fails as a resume does.
   */
  wake(name: string): Promise<void>;
  /** To be told of all that happens to machines. */
  noticed(event: MachineEvent): void;
  /** Finishes or undoes what an earlier process left half done; verbs on those machines wait for it. */
  recover(): Promise<void>;
  /**
   * What became of a job that an earlier process left half done, once `recover` is over; undefined where it
   * did not concern a suspended machine. `askedAt` is when it was asked for; ISO 8601, UTC.
   */
  recoverJob(
    kind: string,
    name: string,
    request: unknown,
    askedAt: string,
  ): Promise<"finished" | "undone" | undefined>;
  /** No machine borrows the memory of that frozen machine any more: unless a verb needs it, it goes. */
  frozenUnused(id: string): Promise<void>;
  /** Gives back memory that is kept only to be quicker. */
  reclaim(): Promise<void>;
  /** Of suspended machines and of snapshots that could not be used here, or are damaged. */
  doctor(thorough: boolean): Promise<Check[]>;
}

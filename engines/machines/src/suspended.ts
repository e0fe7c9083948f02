import { fail } from "./errors.ts";

/**
 * What `machine.json` says of a machine's saved memory. It is written before QEMU is touched, and again at
 * each step that a crash must not blur (engines/arks):
 *
 * - `saving`: the machine is suspended if its state is there as a whole, and was never stopped if not;
 * - `saved`: it sleeps, and nobody but a resume may go on from its disk;
 * - `resuming`: written before the guest goes on, and from then on the disk may be another one than the
 *   memory knows: it is never loaded again.
 */
export interface SuspendedState {
  phase: "saving" | "saved" | "resuming";
  /** `st-` and 17 hexadecimal digits. */
  state: string;
  /** sha256 of its manifest; null while it is saved. */
  digest: string | null;
  /** When the guest was stopped; ISO 8601, UTC. */
  at: string;
  populatedMiB: number;
  storedBytes: number;
  pauseMs: number;
  /** Whether the guest's agent was there, to be told the time. */
  agent: boolean;
  /** It was suspended because nobody used it, and wakes when somebody does. */
  idle?: true;
  /** False: its hooks are not to be run when it is `resuming`. */
  hooks?: false;
}

export function damagedSuspension(suspended: SuspendedState | null): string | undefined {
  if (suspended === null) return undefined;
  const { phase, state, digest } = suspended;
  if (phase !== "saving" && phase !== "saved" && phase !== "resuming") return "has no valid phase of suspend";
  if (!/^st-[0-9a-f]{17}$/.test(state ?? "")) return "names a saved state by no valid id";
  const digested = digest === null ? phase === "saving" : /^[0-9a-f]{64}$/.test(digest ?? "");
  return digested ? undefined : `has no valid digest of state ${state}`;
}

/** Its disk and board must be as its memory knows them. */
export function refuseSuspended({ name, state }: { name: string; state: string }, verb: string): void {
  if (state === "suspended") throw fail("MACHINE_SUSPENDED", { name, verb });
}

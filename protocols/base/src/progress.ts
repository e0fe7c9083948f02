/** What a long operation tells while it runs; `total` is absent where it cannot be known. */
export interface Progress {
  /** What is being done, for a person: `downloading debian-12`. */
  phase: string;
  done?: number;
  total?: number;
  unit?: "bytes" | "steps";
}

/** What every long operation takes: how to stop it and whom to tell. */
export interface Work {
  signal: AbortSignal;
  report(progress: Progress): void;
  /** A line worth keeping: shown on the terminal, kept in the job. */
  note(message: string): void;
}

/** For callers that neither cancel nor listen. */
export function quietWork(signal: AbortSignal = new AbortController().signal): Work {
  return { signal, report() {}, note() {} };
}

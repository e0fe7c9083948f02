import { type ErrorTable, errorsOf } from "@skep/base";

export const forkErrors = {
  FORK_INVALID: { message: 'machine "{machine}" cannot be forked: {why}', hint: "{hint}", status: 400 },
  FORK_NAME_TAKEN: {
    message: 'machine "{machine}" was not forked: {names}',
    hint: "choose others: skep fork {machine} --prefix PREFIX; or see: skep ls",
    status: 409,
  },
  FORK_REFUSED: { message: 'machine "{machine}" cannot be forked: {why}', hint: "{hint}", status: 409 },
  FORK_HELPER: {
    message:
      'machine "{machine}" cannot be forked: its guest has no helper that gives copies their own identity ({why})',
    hint: "install it in the guest (docs/fork.md); or have copies that keep its MAC, names, keys and random numbers: skep fork {machine} --no-identity",
    status: 409,
  },
  FORK_IDENTITY: {
    message:
      'copy "{name}" of machine "{machine}" did not get its own identity: {step}: {why}; no copy was kept',
    hint: "mend that in the guest; or have copies as they are: skep fork {machine} --no-identity",
    status: 500,
  },
  FORK_FAILED: {
    message: 'copy "{name}" of machine "{machine}" could not be made: {why}; no copy was kept',
    hint: "see skepd's log: skep daemon logs",
    status: 500,
  },
} as const satisfies ErrorTable;

export const failFork = errorsOf(forkErrors);

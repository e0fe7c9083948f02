import { type ErrorTable, errorsOf } from "@skep/base";

export const skepdErrors = {
  STORAGED_PROGRAM_MISSING: {
    message: "the program storaged is not beside skepd ({path})",
    hint: "install skep again, or set SKEP_STORAGED to its path",
    status: 503,
  },
} as const satisfies ErrorTable;

export const fail = errorsOf(skepdErrors);

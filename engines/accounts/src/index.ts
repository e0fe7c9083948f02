export { openAccounts } from "./accounts.ts";
export { accountsErrors } from "./errors.ts";
export type * from "./types.ts";

export { openAccounts } from "./accounts.ts";
export { accountsErrors } from "./errors.ts";
export { makeSeal, type Seal } from "./seal.ts";
export type * from "./types.ts";

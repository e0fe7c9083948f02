export { errors as objectErrors } from "./errors.ts";
export type * from "./types.ts";

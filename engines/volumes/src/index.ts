export { volumeErrors } from "./errors.ts";
export * from "./types.ts";

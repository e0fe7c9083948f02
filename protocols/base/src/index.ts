export {
  baseErrors,
  type ErrorBody,
  type ErrorDefinition,
  type ErrorTable,
  errorsOf,
  isErrno,
  SkepError,
  toSkepError,
} from "./errors.ts";
export * from "./files.ts";
export * from "./launch.ts";
export * from "./mutex.ts";
export * from "./names.ts";
export * from "./paths.ts";
export * from "./process.ts";
export * from "./progress.ts";
export * from "./sizes.ts";
export * from "./undo.ts";

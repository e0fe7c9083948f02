import { lockFile } from "@skep/base/lock";
import { fail } from "./errors.ts";
import type { StorePaths } from "./paths.ts";

/** Takes the store for this process. STORE_LOCKED. */
export function lockStore(paths: StorePaths): Disposable {
  const lock = lockFile(paths.lock);
  if (lock === undefined) throw fail("STORE_LOCKED", { path: paths.directory });
  return lock;
}

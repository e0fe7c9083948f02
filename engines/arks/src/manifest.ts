import type { StateManifest } from "./types.ts";

/** Writes `manifest.json` into a temporary directory and gives its digest. STATE_UNWRITABLE. */
export function writeManifest(_directory: string, _manifest: StateManifest): Promise<string> {
  throw new Error("under way");
}

/**
 * Reads and checks `manifest.json`. `digest` is the sha256 by which other records name this state.
 * STATE_NOT_FOUND, STATE_VERSION, STATE_DAMAGED.
 */
export function readManifest(_directory: string): Promise<{ manifest: StateManifest; digest: string }> {
  throw new Error("under way");
}

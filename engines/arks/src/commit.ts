/**
 * Makes a new state's temporary directory, 0700, and `$SKEP_HOME/states` where it is missing.
 */
export function beginState(_home: string): Promise<{ id: string; directory: string }> {
  throw new Error("under way");
}

/**
 * The one point at which a state comes to be: every file is fsynced, the directory renamed to its name,
 * and that made durable. Gives the new path.
 */
export function commitState(_home: string, _id: string): Promise<string> {
  throw new Error("under way");
}

/** Removes a state so that nothing half is ever visible: renamed to its temporary name first. */
export function removeState(_home: string, _id: string): Promise<void> {
  throw new Error("under way");
}

/** Ids of the whole states and of the temporary ones that are there. */
export function listStates(_home: string): Promise<{ states: string[]; temporary: string[] }> {
  throw new Error("under way");
}

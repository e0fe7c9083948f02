import { closeSync, openSync, readdirSync, readSync } from "node:fs";
import { join } from "node:path";
import type { Machine as MachineView } from "@skep/api/schemas";
import { nativeArch } from "./accelerator.ts";
import { noRestart } from "./liveness.ts";
import { homePaths, machinePaths } from "./paths.ts";

/** A machine whose file cannot be read: shown, and removable, but nothing else. */
export interface DamagedMachine {
  name: string;
  reason: string;
  /** Every volume that its file still names. */
  volumes: string[];
}

const headBytes = 64 * 1024;

/**
 * Every digest that a damaged machine's files name: what is left of `machine.json`, the disk's header,
 * and the layers that it may stand on. Too many rather than too few, for its disk is to be saved.
 */
export function digestsOfDamaged(home: string, name: string): Set<string> {
  const paths = machinePaths(home, name);
  const { layers } = homePaths(home);
  const files = [paths.file, paths.disk, ...namesIn(layers).map((layer) => join(layers, layer))];
  const digests = new Set<string>();
  for (const file of files) {
    for (const [hex] of headOf(file).matchAll(/[0-9a-f]{64}/g)) digests.add(`sha256:${hex}`);
  }
  return digests;
}

/** So that nobody else gets what may still be its own. */
export function volumesOfDamaged(home: string, name: string): string[] {
  const ids = headOf(machinePaths(home, name).file).match(/\bvol-[0-9a-f]{17}\b/g);
  return [...new Set(ids)];
}

function namesIn(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch {
    return [];
  }
}

function headOf(path: string): string {
  try {
    const file = openSync(path, "r");
    try {
      const head = Buffer.alloc(headBytes);
      return head.toString("latin1", 0, readSync(file, head, 0, headBytes, 0));
    } finally {
      closeSync(file);
    }
  } catch {
    return ""; // it cannot be read, which may be the damage
  }
}

export function damagedView(
  home: string,
  { name, reason }: Pick<DamagedMachine, "name" | "reason">,
): MachineView {
  const paths = machinePaths(home, name);
  return {
    id: "",
    name,
    state: "damaged",
    reason,
    image: null,
    imageDigest: null,
    from: null,
    arch: nativeArch,
    cpus: 0,
    memoryMiB: 0,
    diskBytes: 0,
    firmware: "bios",
    accelerator: null,
    ports: [],
    dataDisks: [],
    volumes: [],
    ssh: null,
    mac: "",
    autostart: false,
    restart: noRestart,
    restarts: null,
    check: null,
    liveness: null,
    suspendAfterSeconds: null,
    idle: null,
    telnetPort: null,
    pid: null,
    ready: false,
    createdAt: "",
    startedAt: null,
    suspended: null,
    directory: paths.directory,
    sockets: { console: "", control: "" },
  };
}

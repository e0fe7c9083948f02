import { join } from "node:path";
import type { DiskBase } from "./disk.ts";

/** A disk of a machine's own, as QEMU is told of it. `base` is given by us: a disk's header is the guest's word. */
export function diskNode(
  name: string,
  path: string,
  backing: ReturnType<typeof baseNode> | null | undefined,
) {
  return {
    driver: "qcow2",
    "node-name": name,
    discard: "unmap",
    "detect-zeroes": "unmap",
    file: { driver: "file", filename: path, discard: "unmap" },
    ...(backing === undefined ? {} : { backing }),
  };
}

/** What a disk stands on, or undefined where it is blank. */
export function baseNode(home: string, base: DiskBase | null | undefined) {
  if (base === null || base === undefined) return undefined;
  return {
    driver: base.format,
    "read-only": true,
    file: { driver: "file", filename: join(home, base.path), "read-only": true },
  };
}

/** A machine's own disks: `index` is that of a data disk, null for the one it boots from. */
export function diskName(index: number | null): string {
  return index === null ? "root" : `data-${index}`;
}

/** The id of a disk's device, which stays the same whatever is put under it. */
export function diskDevice(index: number | null): string {
  return `disk-${diskName(index)}`;
}

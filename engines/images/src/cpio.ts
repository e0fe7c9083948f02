/** Writes the "newc" cpio archive that Linux unpacks as an initramfs (Documentation/driver-api/early-userspace/buffer-format.rst). */
export type CpioEntry =
  | { path: string; type: "file"; mode: number; data: Uint8Array }
  | { path: string; type: "directory"; mode: number }
  | { path: string; type: "link"; target: string }
  | { path: string; type: "device"; mode: number; major: number; minor: number };

const typeBits = { file: 0o100000, directory: 0o040000, link: 0o120000, device: 0o020000 } as const;
const align4 = (length: number) => (4 - (length % 4)) % 4;

/** Owner root, one time for all entries, inode numbers by position: equal entries give equal bytes. */
export function writeCpio(entries: readonly CpioEntry[], time: number): Buffer {
  const parts: Uint8Array[] = [];
  const add = (path: string, inode: number, mode: number, data: Uint8Array, major = 0, minor = 0) => {
    const name = Buffer.from(`${path}\0`);
    const links = (mode & 0o170000) === typeBits.directory ? 2 : 1;
    const fields = [inode, mode, 0, 0, links, time, data.length, 0, 0, major, minor, name.length, 0];
    const header = `070701${fields.map((field) => field.toString(16).padStart(8, "0")).join("")}`;
    parts.push(Buffer.from(header), name, Buffer.alloc(align4(header.length + name.length)));
    parts.push(data, Buffer.alloc(align4(data.length)));
  };
  let inode = 1;
  for (const entry of entries) {
    const bits = typeBits[entry.type];
    if (entry.type === "file") add(entry.path, inode, bits | entry.mode, entry.data);
    else if (entry.type === "link") add(entry.path, inode, bits | 0o777, Buffer.from(entry.target));
    else if (entry.type === "directory") add(entry.path, inode, bits | entry.mode, Buffer.alloc(0));
    else add(entry.path, inode, bits | entry.mode, Buffer.alloc(0), entry.major, entry.minor);
    inode += 1;
  }
  add("TRAILER!!!", 0, 0, Buffer.alloc(0));
  return Buffer.concat(parts);
}

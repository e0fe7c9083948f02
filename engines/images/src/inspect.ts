import { open } from "node:fs/promises";
import { formatSize, run, type SkepError, type Work } from "@skep/base";
import { fail } from "./errors.ts";

export interface DiskFacts {
  format: "raw" | "qcow2";
  virtualBytes: number;
}

const largestVirtual = 64 * 1024 ** 4;
const plausibleRatio = 1000;
const plausibleFloor = 1024 ** 3;

// Other formats by their first bytes: QEMU would read them, but as a raw disk they are nonsense.
const others: [offset: number, magic: Buffer, name: string][] = [
  [0, Buffer.from("KDMV"), "VMDK"],
  [0, Buffer.from("COWD"), "VMDK"],
  [0, Buffer.from("# Disk DescriptorFile"), "VMDK"],
  [0, Buffer.from("vhdxfile"), "VHDX"],
  [0, Buffer.from("conectix"), "VHD"],
  [0x40, Buffer.from("7f10dabe", "hex"), "VDI"],
  [0, Buffer.from("QED\0"), "QED"],
  [0, Buffer.from("WithoutFreeSpace"), "Parallels"],
  [0, Buffer.from("WithouFreSpacExt"), "Parallels"],
];
const notDisks: [offset: number, magic: Buffer, name: string][] = [
  [0, Buffer.from("PK\x03\x04"), "a zip archive"],
  [257, Buffer.from("ustar"), "a tar archive"],
  [0, Buffer.from("BZh"), "compressed with bzip2"],
  [0, Buffer.from("<!DOCTYPE"), "a web page"],
  [0, Buffer.from("<html"), "a web page"],
  [0, Buffer.from("LUKS\xba\xbe", "latin1"), "encrypted (LUKS)"],
  [0, Buffer.from("\x7fELF", "latin1"), "a program"],
];

/**
 * Looks at a disk that nobody vouches for. QEMU never probes it: our own reading of the header decides
 * the format and refuses whatever would make QEMU open another file (a backing or data file can name any
 * file of this host, and the guest would read it); only then does `qemu-img` look, with the format given.
 */
export async function inspectDisk(path: string, label: string, work: Work): Promise<DiskFacts> {
  const refuse = (why: string, hint = "get the disk again, from a source that you trust"): SkepError =>
    fail("DISK_REFUSED", { path: label, why, hint });
  const handle = await open(path, "r");
  let size: number;
  let head: Buffer;
  try {
    size = (await handle.stat()).size;
    head = Buffer.alloc(Math.min(size, 65_536));
    await handle.read(head, 0, head.length, 0);
  } finally {
    await handle.close();
  }
  if (size === 0) throw refuse("it is empty");
  const starts = ([offset, magic]: [number, Buffer, string]) =>
    head.subarray(offset, offset + magic.length).equals(magic);
  const other = others.find(starts);
  if (other !== undefined) {
    throw refuse(`it is ${other[2]}`, `convert it first: qemu-img convert -O qcow2 ${label} disk.qcow2`);
  }
  const noDisk = notDisks.find(starts);
  if (noDisk !== undefined) throw refuse(`it is ${noDisk[2]}, not a disk`, "give a qcow2 or raw disk");
  const format = head.length >= 4 && head.readUInt32BE(0) === 0x514649fb ? "qcow2" : "raw";
  if (format === "raw" && size % 512 !== 0) {
    throw refuse(
      `its size, ${size} bytes, is no multiple of 512`,
      "give a qcow2 or raw disk; this is neither",
    );
  }
  const virtualBytes = format === "qcow2" ? checkQcow2Header(head, size, refuse) : size;
  if (virtualBytes > largestVirtual) {
    throw refuse(`its virtual size, ${formatSize(virtualBytes)}, is above ${formatSize(largestVirtual)}`);
  }
  if (format === "qcow2" && virtualBytes > plausibleRatio * Math.max(size, plausibleFloor)) {
    throw refuse(
      `its virtual size, ${formatSize(virtualBytes)}, is absurd for a file of ${formatSize(size)}`,
    );
  }
  if (virtualBytes === 0) throw refuse("its virtual size is 0");
  await askQemu(path, { format, virtualBytes }, refuse, work);
  return { format, virtualBytes };
}

type Refuse = (why: string, hint?: string) => SkepError;

// QEMU docs/interop/qcow2.rst, "Header" and "Header extensions".
const incompatible = { dirty: 1n, corrupt: 2n, externalData: 4n, compression: 8n, extendedL2: 16n } as const;
const dataFileExtension = 0x44415441;
const encryptionExtension = 0x0537be77;

/** Refuses every header with which QEMU would look outside the file. Returns the virtual size. */
function checkQcow2Header(head: Buffer, fileBytes: number, refuse: Refuse): number {
  const cut = refuse("its qcow2 header is cut off");
  if (head.length < 72) throw cut;
  const version = head.readUInt32BE(4);
  if (version !== 2 && version !== 3) throw refuse(`it has qcow2 version ${version}, which is unknown`);
  if (head.readBigUInt64BE(8) !== 0n || head.readUInt32BE(16) !== 0) {
    throw refuse("it has a backing file", "flatten it where it was made: qemu-img convert -O qcow2 OLD NEW");
  }
  if (head.readUInt32BE(32) !== 0) throw refuse("it is encrypted", "decrypt it first: qemu-img convert");
  const clusterBits = head.readUInt32BE(20);
  if (clusterBits < 9 || clusterBits > 21)
    throw refuse(`its cluster size, 2^${clusterBits}, is out of range`);
  const size = head.readBigUInt64BE(24);
  const l1Entries = head.readUInt32BE(36);
  const l1Offset = head.readBigUInt64BE(40);
  if (l1Offset + BigInt(l1Entries) * 8n > BigInt(fileBytes))
    throw refuse("its tables lie beyond its end: it is cut off");
  let headerLength = 72;
  if (version === 3) {
    if (head.length < 104) throw cut;
    const features = head.readBigUInt64BE(72);
    if ((features & incompatible.externalData) !== 0n) throw refuse("it keeps its data in another file");
    if ((features & incompatible.corrupt) !== 0n)
      throw refuse("it is marked as corrupt", "repair it: qemu-img check -r all");
    const known = Object.values(incompatible).reduce((sum, bit) => sum | bit, 0n);
    if ((features & ~known) !== 0n) throw refuse("it needs features of a newer QEMU");
    headerLength = head.readUInt32BE(100);
    if (headerLength < 104 || headerLength > 4096) throw cut;
  }
  for (let at = headerLength; ; ) {
    if (at + 8 > head.length) throw cut;
    const type = head.readUInt32BE(at);
    const length = head.readUInt32BE(at + 4);
    if (type === 0) break;
    if (type === dataFileExtension) throw refuse("it names an external data file");
    if (type === encryptionExtension) throw refuse("it is encrypted", "decrypt it first: qemu-img convert");
    at += 8 + Math.ceil(length / 8) * 8;
  }
  if (size > BigInt(Number.MAX_SAFE_INTEGER)) throw refuse("its virtual size is absurd");
  return Number(size);
}

/** A second opinion, which must be the same: `qemu-img info`, then `check` for what is cut off inside. */
async function askQemu(path: string, facts: DiskFacts, refuse: Refuse, work: Work): Promise<void> {
  const install = "apt-get install qemu-utils";
  const look = async (...args: string[]) => {
    const all = [...args, "--output=json", "-f", facts.format, "-U", path];
    return await run("qemu-img", all, { signal: work.signal, install, okStatuses: [0, 1, 2, 3] });
  };
  const info = await look("info");
  if (info.status !== 0) throw refuse(`qemu-img cannot read it (${oneLine(info.stderr)})`);
  const said = JSON.parse(info.stdout) as {
    format?: string;
    "virtual-size"?: number;
    "backing-filename"?: string;
    encrypted?: boolean;
    "format-specific"?: { data?: { "data-file"?: string; encrypt?: unknown } };
  };
  const inner = said["format-specific"]?.data;
  if (said["backing-filename"] !== undefined) throw refuse("it has a backing file");
  if (inner?.["data-file"] !== undefined) throw refuse("it keeps its data in another file");
  if (said.encrypted === true || inner?.encrypt !== undefined) throw refuse("it is encrypted");
  if (said.format !== facts.format || said["virtual-size"] !== facts.virtualBytes) {
    throw refuse(`qemu-img reads it as another disk (${said.format}, ${said["virtual-size"]} bytes)`);
  }
  if (facts.format !== "qcow2") return;
  const check = await look("check");
  if (check.status === 1 || check.status === 2) {
    throw refuse(`its tables are damaged or cut off (${oneLine(check.stderr || check.stdout)})`);
  }
}

function oneLine(text: string): string {
  return text.trim().split("\n").slice(-2).join(" ").slice(0, 300);
}

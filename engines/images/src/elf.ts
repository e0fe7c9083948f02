/**
 * The little of ELF that packing an initramfs needs: which libraries and which loader a program wants
 * (System V ABI, "Dynamic Section"), and what a kernel module says of itself (section `.modinfo`).
 * 64-bit little-endian only, which x86_64 and aarch64 both are.
 */
export interface ElfNeeds {
  interpreter: string | null;
  libraries: string[];
}

const segment = { load: 1, dynamic: 2, interpreter: 3 } as const;
const tag = { needed: 1, stringTable: 5 } as const;

/** What the program asks its loader for, or undefined where the bytes are no such program. */
export function elfNeeds(file: Buffer): ElfNeeds | undefined {
  if (file.length < 64 || file.readUInt32BE(0) !== 0x7f454c46 || file[4] !== 2 || file[5] !== 1)
    return undefined;
  try {
    const start = Number(file.readBigUInt64LE(32));
    const size = file.readUInt16LE(54);
    const segments = Array.from({ length: file.readUInt16LE(56) }, (_, index) => {
      const at = start + index * size;
      return {
        type: file.readUInt32LE(at),
        offset: Number(file.readBigUInt64LE(at + 8)),
        address: Number(file.readBigUInt64LE(at + 16)),
        length: Number(file.readBigUInt64LE(at + 32)),
      };
    });
    const toOffset = (address: number): number => {
      const home = segments.find(
        (one) => one.type === segment.load && address >= one.address && address < one.address + one.length,
      );
      if (home === undefined) throw new RangeError("address outside the file");
      return address - home.address + home.offset;
    };
    const interpreter = segments.find((one) => one.type === segment.interpreter);
    const dynamic = segments.find((one) => one.type === segment.dynamic);
    const names: number[] = [];
    let strings = 0;
    for (let at = dynamic?.offset ?? 0; dynamic && at < dynamic.offset + dynamic.length; at += 16) {
      const kind = Number(file.readBigInt64LE(at));
      const value = Number(file.readBigUInt64LE(at + 8));
      if (kind === 0) break;
      if (kind === tag.needed) names.push(value);
      if (kind === tag.stringTable) strings = toOffset(value);
    }
    return {
      interpreter: interpreter === undefined ? null : textAt(file, interpreter.offset),
      libraries: names.map((offset) => textAt(file, strings + offset)),
    };
  } catch (error) {
    if (error instanceof RangeError) return undefined; // cut off, or offsets that point outside
    throw error;
  }
}

/** Names of the modules that must be loaded before this one. */
export function moduleNeeds(file: Buffer): string[] {
  const needs = modinfo(file, "depends").flatMap((value) => value.split(","));
  const soft = modinfo(file, "softdep").flatMap((value) =>
    (/pre:\s*([^:]*?)(?:\s+\w+:|$)/.exec(value)?.[1] ?? "").split(/\s+/),
  );
  return [...needs, ...soft].filter((name) => name !== "");
}

function modinfo(file: Buffer, key: string): string[] {
  const found: string[] = [];
  const needle = Buffer.from(`\0${key}=`, "latin1");
  for (let at = file.indexOf(needle); at >= 0; at = file.indexOf(needle, at + 1)) {
    found.push(textAt(file, at + needle.length));
  }
  return found;
}

function textAt(file: Buffer, offset: number): string {
  const end = file.indexOf(0, offset);
  if (end < 0) throw new RangeError("text without an end");
  return file.toString("latin1", offset, end);
}

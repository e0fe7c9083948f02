/** One member of a tar stream. Sizes in bytes, mtime in milliseconds since the epoch. */
export interface TarEntry {
  name: string;
  kind: "file" | "directory" | "symlink" | "hardlink" | "other";
  mode: number;
  size: number;
  mtimeMs: number;
  linkName: string;
}

/** What a stream must not go beyond. */
export interface TarLimits {
  entries: number;
  /** Of names and of the extended headers that carry long ones. */
  headerBytes: number;
}

export const defaultLimits: TarLimits = { entries: 1_000_000, headerBytes: 1024 * 1024 };

export class TarError extends Error {}

const blockBytes = 512;

/** Bytes on demand from pieces of any length. */
class Pieces {
  #source: AsyncIterator<Uint8Array>;
  #piece: Uint8Array = new Uint8Array(0);

  constructor(source: AsyncIterable<Uint8Array>) {
    this.#source = source[Symbol.asyncIterator]();
  }

  /** The next one to `limit` bytes, or undefined at the end. */
  async some(limit: number): Promise<Uint8Array | undefined> {
    while (this.#piece.length === 0) {
      const next = await this.#source.next();
      if (next.done === true) return undefined;
      this.#piece = next.value;
    }
    const part = this.#piece.subarray(0, limit);
    this.#piece = this.#piece.subarray(part.length);
    return part;
  }

  async exactly(count: number): Promise<Buffer> {
    const parts: Uint8Array[] = [];
    for (let missing = count; missing > 0; ) {
      const part = await this.some(missing);
      if (part === undefined) throw new TarError("it ends in the middle of an entry");
      parts.push(part);
      missing -= part.length;
    }
    return Buffer.concat(parts, count);
  }

  async skip(count: number): Promise<void> {
    for (let missing = count; missing > 0; ) {
      const part = await this.some(missing);
      if (part === undefined) throw new TarError("it ends in the middle of an entry");
      missing -= part.length;
    }
  }
}

function textOf(field: Uint8Array): string {
  const end = field.indexOf(0);
  return Buffer.from(end < 0 ? field : field.subarray(0, end)).toString("utf8");
}

/** Octal digits, or GNU's base 256 where the first bit is set. */
function numberOf(field: Uint8Array): number {
  let value = 0;
  if ((field[0]! & 0x80) !== 0) {
    if ((field[0]! & 0x40) !== 0) throw new TarError("a number in it is negative");
    value = field[0]! & 0x3f;
    for (const byte of field.subarray(1)) value = value * 256 + byte;
  } else {
    const text = textOf(field).trim();
    if (!/^[0-7]*$/.test(text)) throw new TarError("a number in it is not octal");
    value = text === "" ? 0 : Number.parseInt(text, 8);
  }
  if (!Number.isSafeInteger(value)) throw new TarError("a number in it is too large");
  return value;
}

function checkSum(block: Uint8Array): void {
  let sum = 8 * 0x20;
  for (let index = 0; index < blockBytes; index += 1) if (index < 148 || index >= 156) sum += block[index]!;
  if (numberOf(block.subarray(148, 156)) !== sum) throw new TarError("a header's checksum is wrong");
}

/** `LENGTH KEY=VALUE\n` records of a pax extended header (POSIX.1-2001, "pax"). */
function paxRecords(data: Buffer): Map<string, string> {
  const records = new Map<string, string>();
  for (let at = 0; at < data.length; ) {
    const space = data.indexOf(0x20, at);
    const length = space < 0 || space - at > 8 ? Number.NaN : Number(data.toString("latin1", at, space));
    const end = at + length;
    if (!Number.isInteger(length) || end > data.length || end <= space || data[end - 1] !== 0x0a) {
      throw new TarError("an extended header is damaged");
    }
    const record = data.toString("utf8", space + 1, end - 1);
    const equals = record.indexOf("=");
    if (equals > 0) records.set(record.slice(0, equals), record.slice(equals + 1));
    at = end;
  }
  return records;
}

const kinds: Record<string, TarEntry["kind"]> = {
  "0": "file",
  "\0": "file",
  "7": "file",
  "1": "hardlink",
  "2": "symlink",
  "5": "directory",
};

function entryOf(block: Uint8Array, long: Map<string, string>): TarEntry {
  const isUstar = textOf(block.subarray(257, 263)) === "ustar" && block[262] === 0;
  const prefix = isUstar ? textOf(block.subarray(345, 500)) : "";
  const short = textOf(block.subarray(0, 100));
  const name = long.get("path") ?? (prefix === "" ? short : `${prefix}/${short}`);
  const kind = kinds[String.fromCharCode(block[156]!)] ?? "other";
  const paxSize = long.get("size");
  if (paxSize !== undefined && !/^\d{1,15}$/.test(paxSize)) throw new TarError("a size in it is no number");
  const size = paxSize === undefined ? numberOf(block.subarray(124, 136)) : Number(paxSize);
  const seconds = Number(long.get("mtime") ?? numberOf(block.subarray(136, 148)));
  return {
    name,
    // tars from before POSIX mark a directory by the slash
    kind: kind === "file" && name.endsWith("/") ? "directory" : kind,
    mode: numberOf(block.subarray(100, 108)) & 0o7777,
    size,
    mtimeMs: Number.isFinite(seconds) ? seconds * 1000 : 0,
    linkName: long.get("linkpath") ?? textOf(block.subarray(157, 257)),
  };
}

/**
 * Reads a tar stream (ustar, pax, GNU long names) that may be hostile: nothing larger than a limit is
 * kept in memory. Each entry's body must be read, or is passed over, before the next. Formats: POSIX.1
 * "pax", and GNU tar's manual, "Basic Tar Format".
 */
export async function* readTar(
  source: AsyncIterable<Uint8Array>,
  limits: TarLimits = defaultLimits,
): AsyncGenerator<{ entry: TarEntry; body: AsyncIterable<Uint8Array> }> {
  const pieces = new Pieces(source);
  let long = new Map<string, string>();
  let entries = 0;
  for (;;) {
    const first = await pieces.some(blockBytes);
    if (first === undefined) throw new TarError("it ends before its end mark");
    const block =
      first.length === blockBytes
        ? first
        : Buffer.concat([first, await pieces.exactly(blockBytes - first.length)]);
    if (block.every((byte) => byte === 0)) {
      while ((await pieces.some(65_536)) !== undefined); // padding
      return;
    }
    checkSum(block);
    entries += 1;
    if (entries > limits.entries) throw new TarError(`it has more than ${limits.entries} entries`);
    const type = String.fromCharCode(block[156]!);
    if (type === "x" || type === "g" || type === "L" || type === "K") {
      const size = numberOf(block.subarray(124, 136));
      if (size > limits.headerBytes) throw new TarError("an extended header is too large");
      const data = await pieces.exactly(size);
      await pieces.skip((blockBytes - (size % blockBytes)) % blockBytes);
      if (type === "x") long = new Map([...long, ...paxRecords(data)]);
      else if (type === "L") long.set("path", textOf(data));
      else if (type === "K") long.set("linkpath", textOf(data));
      continue;
    }
    const entry = entryOf(block, long);
    long = new Map();
    const hasBody = entry.kind === "file" || entry.kind === "other";
    let left = hasBody ? entry.size : 0;
    const padding = hasBody ? (blockBytes - (entry.size % blockBytes)) % blockBytes : 0;
    async function* body() {
      while (left > 0) {
        const part = await pieces.some(Math.min(left, 1024 * 1024));
        if (part === undefined) throw new TarError("it ends in the middle of an entry");
        left -= part.length;
        yield part;
      }
    }
    yield { entry, body: body() };
    await pieces.skip(left + padding);
  }
}

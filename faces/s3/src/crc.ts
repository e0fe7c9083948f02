/**
 * CRC-32C (RFC 3720, appendix B.4) and CRC-64/NVME (NVM Express NVM Command Set, section 5.2.1.3.4), eight
 * bytes a step, and the CRC of joined data from those of its parts. All are of the reflected kind:
 * the lowest bit of a byte comes first, and the highest bit of a polynomial is x^0.
 */

/** Reflected polynomials; 64 bits as two halves. */
export const poly32 = 0xedb88320 | 0;
export const poly32c = 0x82f63b78 | 0;
const poly64: Crc64 = { high: 0x9a6c9329 | 0, low: 0xac4bc9b5 | 0 };

/** 64 bits as two signed integers of 32. */
export interface Crc64 {
  high: number;
  low: number;
}

/** Eight tables in one: table k, at 256 k, is the effect of a byte that k more bytes follow. */
const table32c = makeTable32(poly32c);
const [table64High, table64Low] = makeTable64();

function makeTable32(poly: number): Int32Array {
  const table = new Int32Array(8 * 256);
  for (let byte = 0; byte < 256; byte += 1) {
    let crc = byte;
    for (let bit = 0; bit < 8; bit += 1) crc = crc & 1 ? (crc >>> 1) ^ poly : crc >>> 1;
    table[byte] = crc;
  }
  for (let at = 256; at < table.length; at += 1) {
    const before = table[at - 256] as number;
    table[at] = (before >>> 8) ^ (table[before & 255] as number);
  }
  return table;
}

function makeTable64(): [Int32Array, Int32Array] {
  const high = new Int32Array(8 * 256);
  const low = new Int32Array(8 * 256);
  for (let byte = 0; byte < 256; byte += 1) {
    let crc: Crc64 = { high: 0, low: byte };
    for (let bit = 0; bit < 8; bit += 1) crc = halve64(crc);
    high[byte] = crc.high;
    low[byte] = crc.low;
  }
  for (let at = 256; at < high.length; at += 1) {
    const [h, l] = [high[at - 256] as number, low[at - 256] as number];
    high[at] = (h >>> 8) ^ (high[l & 255] as number);
    low[at] = (l >>> 8) ^ (h << 24) ^ (low[l & 255] as number);
  }
  return [high, low];
}

/** Continues a CRC-32C; the first one is 0. */
export function crc32c(bytes: Uint8Array, before = 0): number {
  const t = table32c;
  let crc = ~before;
  let at = 0;
  for (const end = bytes.length - 7; at < end; at += 8) {
    const a = crc ^ (bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24));
    crc =
      t[1792 | (a & 255)]! ^
      t[1536 | ((a >>> 8) & 255)]! ^
      t[1280 | ((a >>> 16) & 255)]! ^
      t[1024 | (a >>> 24)]! ^
      t[768 | bytes[at + 4]!]! ^
      t[512 | bytes[at + 5]!]! ^
      t[256 | bytes[at + 6]!]! ^
      t[bytes[at + 7]!]!;
  }
  for (; at < bytes.length; at += 1) crc = (crc >>> 8) ^ t[(crc ^ bytes[at]!) & 255]!;
  return ~crc;
}

/** Continues a CRC-64/NVME; the first one is 0. */
export function crc64nvme(bytes: Uint8Array, before: Crc64): Crc64 {
  const hs = table64High;
  const ls = table64Low;
  let high = ~before.high;
  let low = ~before.low;
  let at = 0;
  for (const end = bytes.length - 7; at < end; at += 8) {
    const a = low ^ (bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24));
    const b =
      high ^ (bytes[at + 4]! | (bytes[at + 5]! << 8) | (bytes[at + 6]! << 16) | (bytes[at + 7]! << 24));
    const i7 = 1792 | (a & 255);
    const i6 = 1536 | ((a >>> 8) & 255);
    const i5 = 1280 | ((a >>> 16) & 255);
    const i4 = 1024 | (a >>> 24);
    const i3 = 768 | (b & 255);
    const i2 = 512 | ((b >>> 8) & 255);
    const i1 = 256 | ((b >>> 16) & 255);
    const i0 = b >>> 24;
    high = hs[i7]! ^ hs[i6]! ^ hs[i5]! ^ hs[i4]! ^ hs[i3]! ^ hs[i2]! ^ hs[i1]! ^ hs[i0]!;
    low = ls[i7]! ^ ls[i6]! ^ ls[i5]! ^ ls[i4]! ^ ls[i3]! ^ ls[i2]! ^ ls[i1]! ^ ls[i0]!;
  }
  for (; at < bytes.length; at += 1) {
    const index = (low ^ bytes[at]!) & 255;
    low = (low >>> 8) ^ (high << 24) ^ ls[index]!;
    high = (high >>> 8) ^ hs[index]!;
  }
  return { high: ~high, low: ~low };
}

/** The CRC of parts laid one after another. */
export function combine32(parts: readonly { crc: number; sizeBytes: number }[], poly: number): number {
  const shift = shifter(1 << 31, 1 << 23, (a: number, b: number) => multiply32(a, b, poly));
  return parts.reduce((whole, { crc, sizeBytes }) => multiply32(whole, shift(sizeBytes), poly) ^ crc, 0);
}

export function combine64(parts: readonly { crc: Crc64; sizeBytes: number }[]): Crc64 {
  const shift = shifter({ high: 1 << 31, low: 0 }, { high: 1 << 23, low: 0 }, multiply64);
  return parts.reduce<Crc64>(
    (whole, { crc, sizeBytes }) => {
      const { high, low } = multiply64(whole, shift(sizeBytes));
      return { high: high ^ crc.high, low: low ^ crc.low };
    },
    { high: 0, low: 0 },
  );
}

/** x^(8 n) of a field, whose `one` is x^0 and `byte` x^8, for many n: squares and results are kept. */
function shifter<T>(one: T, byte: T, multiply: (a: T, b: T) => T): (sizeBytes: number) => T {
  const squares = [byte];
  const kept = new Map<number, T>();
  return (sizeBytes) => {
    let power = kept.get(sizeBytes) ?? one;
    if (kept.has(sizeBytes)) return power;
    for (let left = sizeBytes, k = 0; left > 0; left = Math.floor(left / 2), k += 1) {
      squares[k] ??= multiply(squares[k - 1] as T, squares[k - 1] as T);
      if (left % 2 === 1) power = multiply(power, squares[k] as T);
    }
    kept.set(sizeBytes, power);
    return power;
  };
}

function multiply32(a: number, b: number, poly: number): number {
  let product = 0;
  let shifted = b;
  for (let rest = a; rest !== 0; rest <<= 1) {
    if (rest < 0) product ^= shifted;
    shifted = shifted & 1 ? (shifted >>> 1) ^ poly : shifted >>> 1;
  }
  return product;
}

function multiply64(a: Crc64, b: Crc64): Crc64 {
  const product = { high: 0, low: 0 };
  let shifted = b;
  for (let { high, low } = a; (high | low) !== 0; high = (high << 1) | (low >>> 31), low <<= 1) {
    if (high < 0) {
      product.high ^= shifted.high;
      product.low ^= shifted.low;
    }
    shifted = halve64(shifted);
  }
  return product;
}

/** Times x. */
function halve64({ high, low }: Crc64): Crc64 {
  const halved = { high: high >>> 1, low: (low >>> 1) | (high << 31) };
  if (low & 1) {
    halved.high ^= poly64.high;
    halved.low ^= poly64.low;
  }
  return halved;
}

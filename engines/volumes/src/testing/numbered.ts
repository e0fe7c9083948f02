import assert from "node:assert/strict";

/** The smallest part of the device that is written at once, and whose contents are known. */
export const unitBytes = 512;

/** A unit: its place and what number its write had, over and over; zeroes for number 0. */
function fillUnit(into: Buffer, unit: number, number: number): void {
  if (number === 0) {
    into.fill(0);
    return;
  }
  into.writeUInt32LE(unit, 0);
  into.writeUInt32LE(number, 4);
  into.fill(into.subarray(0, 8), 8);
}

/**
 * What a device may hold after its server was killed: of each unit the write that was answered last, or one
 * that was under way. Writes of one unit do not overlap in time.
 */
export class NumberedUnits {
  readonly #answered: Uint32Array;
  readonly #underWay: Map<number, number> = new Map();
  readonly #expected = Buffer.alloc(unitBytes);
  #number = 0;

  constructor(units: number) {
    this.#answered = new Uint32Array(units);
  }

  /** The bytes to write. */
  begin(first: number, count: number, kind: "data" | "zeroes"): Buffer {
    const data = Buffer.alloc(count * unitBytes);
    const number = kind === "data" ? ++this.#number : 0;
    for (let at = 0; at < count; at += 1) {
      this.#underWay.set(first + at, number);
      fillUnit(data.subarray(at * unitBytes, (at + 1) * unitBytes), first + at, number);
    }
    return data;
  }

  answered(first: number, count: number): void {
    for (let unit = first; unit < first + count; unit += 1) {
      this.#answered[unit] = this.#underWay.get(unit) as number;
      this.#underWay.delete(unit);
    }
  }

  /** Compares units with what they may be; what they are is what they have to stay. */
  settle(first: number, bytes: Buffer): void {
    for (let at = 0; at < bytes.length; at += unitBytes) {
      const unit = first + at / unitBytes;
      const found = bytes.subarray(at, at + unitBytes);
      const possible = [this.#answered[unit] as number, this.#underWay.get(unit)];
      const number = found.readUInt32LE(4);
      fillUnit(this.#expected, unit, number);
      assert.ok(
        possible.includes(number) && this.#expected.equals(found),
        `unit ${unit} is not of write ${possible.join(" or ")}: it begins with ${found.subarray(0, 16).toString("hex")}`,
      );
      this.#answered[unit] = number;
      this.#underWay.delete(unit);
    }
  }
}

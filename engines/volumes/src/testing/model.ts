/** What a write is safe from once it was answered, then flushed: each is more than the one before. */
export type Loss = "nothing" | "process" | "power" | "disk";

const losses: readonly Loss[] = ["nothing", "process", "power", "disk"];

/** One change of a volume's bytes: when it was begun, and when it was answered. */
export interface Change {
  readonly offset: number;
  readonly length: number;
  /** Undefined: zeroes. */
  readonly bytes: Buffer | undefined;
  readonly begun: number;
  /** Infinite while it is under way. */
  ended: number;
  /** What it survives. "nothing": it may or may not have happened, for it was refused, or never answered. */
  survives: Loss;
}

/** Points of time at which a volume may have been as it was seen: from the first to the last, both included. */
export interface Interval {
  from: number;
  to: number;
}

const unitBytes = 512;

/** Counts what happens: of two things that happen one after the other, the second has the greater number. */
export class LogicalTime {
  now = 0;

  next(): number {
    this.now += 1;
    return this.now;
  }
}

/**
 * The bytes a volume may have. A change that was answered before another was begun is overwritten by that
 * one; of changes that ran at the same time any may be the last, sector by sector; one that was never
 * answered may have happened at any time after it was begun, or not at all, sector by sector.
 */
export class VolumeModel {
  readonly #time: LogicalTime;
  readonly #changes: Change[] = [];
  readonly #units = new Map<number, Change[]>();
  /** What was acknowledged. */
  sizeBytes: number;
  /** What was answered before this is in the store, whatever happens here. */
  storedSince = 0;

  constructor(time: LogicalTime, sizeBytes: number) {
    this.#time = time;
    this.sizeBytes = sizeBytes;
  }

  /** A change begins: it may show from now on. */
  begin(offset: number, length: number, bytes?: Buffer): Change {
    const begun = this.#time.next();
    const ended = Number.POSITIVE_INFINITY;
    const change: Change = { offset, length, bytes, begun, ended, survives: "nothing" };
    this.#changes.push(change);
    for (const unit of unitsOf(offset, length)) {
      const known = this.#units.get(unit);
      if (known === undefined) this.#units.set(unit, [change]);
      else known.push(change);
    }
    return change;
  }

  /** It was answered, or refused ("nothing"). */
  end(change: Change, survives: Loss): void {
    change.ended = this.#time.next();
    change.survives = survives;
  }

  /** From now on it is this, whatever happens; what it was before is kept for `instants`. */
  settle(seen: Buffer, survives: Loss): void {
    const now = this.#time.next();
    for (const change of this.#changes) change.ended = Math.min(change.ended, now);
    this.end(this.begin(0, seen.length, Buffer.from(seen)), survives);
    this.sizeBytes = seen.length;
    if (survives === "disk") this.storedSince = this.#time.next();
  }

  /** All that was answered before a point of time survives this from now on. */
  secure(before: number, loss: Loss): void {
    for (const change of this.#changes) {
      if (change.ended < before && change.survives !== "nothing") strengthen(change, loss);
    }
    if (loss === "disk") this.storedSince = Math.max(this.storedSince, before);
  }

  /** Why nobody who began to read at `since` can have seen this, after such a loss; undefined where he can. */
  refute(seen: Buffer, offset: number, since: number, after: Loss = "process"): string | undefined {
    const rank = losses.indexOf(after);
    for (const piece of this.#pieces(seen, offset)) {
      const { changes } = piece;
      const isLast = (one: Change | undefined) =>
        !changes.some(
          (other) =>
            losses.indexOf(other.survives) >= rank && other.begun > (one?.ended ?? -1) && other.ended < since,
        );
      if (!piece.candidates().some(isLast)) return piece.describe(after);
    }
    return undefined;
  }

  /** When the whole volume was as it was seen: at one instant, however many writes were under way. */
  instants(seen: Buffer): Interval[] | string {
    let intervals: Interval[] = [{ from: 0, to: Number.POSITIVE_INFINITY }];
    for (const piece of this.#pieces(seen, 0)) {
      const possible = piece.candidates().map((one) => {
        const ended = one?.ended ?? -1;
        const next = piece.changes
          .filter((other) => other.survives !== "nothing" && other.begun > ended)
          .reduce((earliest, other) => Math.min(earliest, other.ended), Number.POSITIVE_INFINITY);
        return { from: (one?.begun ?? -1) + 1, to: next };
      });
      const common = intersect(intervals, possible);
      if (common.length === 0) {
        return `${piece.describe("process")}; that was so at ${show(possible)}, all before it at ${show(intervals)}`;
      }
      intervals = common;
    }
    return intervals;
  }

  /** Stretches within which every change is wholly there or not at all. */
  *#pieces(seen: Buffer, offset: number): Iterable<Piece> {
    for (const unit of unitsOf(offset, seen.length)) {
      const start = Math.max(offset, unit * unitBytes);
      const end = Math.min(offset + seen.length, (unit + 1) * unitBytes);
      const changes = this.#units.get(unit) ?? [];
      const cuts = new Set([start, end]);
      for (const change of changes) {
        if (change.offset > start && change.offset < end) cuts.add(change.offset);
        const last = change.offset + change.length;
        if (last > start && last < end) cuts.add(last);
      }
      const sorted = [...cuts].sort((one, other) => one - other);
      for (const [at, from] of sorted.entries()) {
        const to = sorted[at + 1];
        if (to === undefined) break;
        const covering =
          sorted.length === 2 && changes.every((one) => covers(one, from, to))
            ? changes
            : changes.filter((one) => covers(one, from, to));
        yield new Piece(from, seen.subarray(from - offset, to - offset), covering);
      }
    }
  }
}

const zeroes = Buffer.alloc(unitBytes);

class Piece {
  readonly offset: number;
  readonly seen: Buffer;
  readonly changes: readonly Change[];

  constructor(offset: number, seen: Buffer, changes: readonly Change[]) {
    this.offset = offset;
    this.seen = seen;
    this.changes = changes;
  }

  /** Which changes have left these bytes, latest first; undefined: a volume is zeroes at first. */
  candidates(): (Change | undefined)[] {
    const found: (Change | undefined)[] = this.changes.filter((one) => this.#shows(one)).reverse();
    if (this.#isZero()) found.push(undefined);
    return found;
  }

  #isZero(): boolean {
    return zeroes.compare(this.seen, 0, this.seen.length, 0, this.seen.length) === 0;
  }

  #shows({ bytes, offset }: Change): boolean {
    if (bytes === undefined) return this.#isZero();
    const at = this.offset - offset;
    return bytes.compare(this.seen, 0, this.seen.length, at, at + this.seen.length) === 0;
  }

  describe(after: Loss): string {
    const last = this.offset + this.seen.length;
    const block = Math.floor(this.offset / 4096);
    const list = this.changes
      .map(
        (one) =>
          `${this.#shows(one) ? "*" : ""}${one.offset}+${one.length}${one.bytes === undefined ? " zero" : ""}` +
          ` [${one.begun}, ${one.ended}] ${one.survives}`,
      )
      .join("; ");
    const what = this.#isZero() ? "zeroes" : this.seen.subarray(0, 8).toString("hex");
    return `bytes ${this.offset} to ${last} (block ${block}) are ${what} after the loss of ${after}; changes: ${list}`;
  }
}

function* unitsOf(offset: number, length: number): Iterable<number> {
  const last = Math.ceil((offset + length) / unitBytes);
  for (let unit = Math.floor(offset / unitBytes); unit < last; unit += 1) yield unit;
}

function covers({ offset, length }: Change, from: number, to: number): boolean {
  return offset <= from && offset + length >= to;
}

function strengthen(change: Change, loss: Loss): void {
  if (losses.indexOf(loss) > losses.indexOf(change.survives)) change.survives = loss;
}

export function intersect(one: readonly Interval[], other: readonly Interval[]): Interval[] {
  const common: Interval[] = [];
  for (const a of one) {
    for (const b of other) {
      const from = Math.max(a.from, b.from);
      const to = Math.min(a.to, b.to);
      if (from <= to) common.push({ from, to });
    }
  }
  common.sort((a, b) => a.from - b.from);
  const merged: Interval[] = [];
  for (const interval of common) {
    const last = merged.at(-1);
    if (last !== undefined && interval.from <= last.to + 1) last.to = Math.max(last.to, interval.to);
    else merged.push({ ...interval });
  }
  return merged;
}

export function show(intervals: readonly Interval[]): string {
  return intervals.map(({ from, to }) => `${from}..${to}`).join(", ") || "never";
}

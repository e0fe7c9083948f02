import type { ReplayEntry, Scanned } from "./scan.ts";
import type { SegmentHeader } from "./segment.ts";

/** What is missing between a log's whole slots, and whether it had been on stable storage. */

/** Slots that are missing or damaged although later ones are whole. */
export interface WalGap {
  /** The segment whose slots end it. */
  path: string;
  /** Where in that segment; no bytes where the slots were in segments before it. */
  position: number;
  bytes: number;
  slots: number;
  /**
   * They were synced once: the disk has lost what was promised. Otherwise a power loss has taken writes that
   * no flush had promised, or, where there was none, the disk is damaged.
   */
  wasSynced: boolean;
  /** As far as their own heads still say so: which blocks had newer content there. */
  blocks: Pick<ReplayEntry, "block" | "count">[];
}

interface ScannedSegment {
  path: string;
  /** Null where it is torn. */
  header: Pick<SegmentHeader, "since"> | null;
  scanned: Scanned;
}

/**
 * The gaps of one log's segments, given in the order of their numbers; numbers up to `sequence` are not
 * missed. A slot says up to which number slots were on stable storage when it was written (FORMAT.md); that
 * holds for numbers above its segment's `since`, for of those before, gaps were known when it was made.
 */
export function findGaps(segments: readonly ScannedSegment[], sequence: bigint | undefined): WalGap[] {
  const proofs = proofsOf(segments);
  const gaps: WalGap[] = [];
  let last = sequence;
  for (const { path, scanned } of segments) {
    let end: number | undefined;
    for (const run of scanned.runs) {
      if (last !== undefined && run.first > last + 1n) {
        const first = last + 1n;
        const missing = (number: bigint) => number >= first && number < run.first;
        gaps.push({
          path,
          position: end ?? run.position,
          bytes: end === undefined ? 0 : run.position - end,
          slots: Number(run.first - first),
          wasSynced: proofs.some(
            ([since, synced]) => synced >= first && since + 1n < run.first && synced > since,
          ),
          blocks: scanned.hints
            .filter((hint) => missing(hint.sequence))
            .map(({ block, count }) => ({ block, count })),
        });
      }
      if (last === undefined || run.last > last) last = run.last;
      end = run.end;
    }
  }
  return gaps;
}

/** Pairs: of the slots with numbers above the first and up to the second, none is missing honestly. */
function proofsOf(segments: readonly ScannedSegment[]): [bigint, bigint][] {
  const proofs = new Map<bigint, bigint>();
  for (const { header, scanned } of segments) {
    if (header === null) continue;
    if (scanned.synced > (proofs.get(header.since) ?? 0n)) proofs.set(header.since, scanned.synced);
  }
  return [...proofs];
}

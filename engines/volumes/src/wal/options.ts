import type { KeyObject } from "node:crypto";
import type { Files } from "@skep/objects/files";
import type { Pace } from "../pace.ts";
import type { ReplayEntry } from "./scan.ts";

/** Where an entry's first slot lies; those of its other blocks follow it. */
export interface Placed {
  segment: number;
  position: number;
}

/** What of a volume's key the log needs: 32 bytes for one segment (keys.ts). */
export interface SegmentKeys {
  segmentKey(salt: bigint, number: number): KeyObject;
}

export interface WalOptions {
  files: Files;
  /** `…/volumes/<id>/wal`; made where it is missing. */
  directory: string;
  /** `vol-…` */
  volume: string;
  /** `Owner.Wal`: the same for as long as segments with it are needed. */
  word: bigint;
  /** For the headers of new segments. */
  epoch: number;
  /** `WALNum`. */
  firstSegment: number;
  /** `SeqNum`: slots up to it are neither replayed nor missed, and new ones are numbered from above it. */
  sequence?: bigint;
  key: SegmentKeys | null;
  /** 64 MiB where it is not given. */
  segmentBytes?: number;
  /** Bytes that are not synced, at most, before a sync begins by itself; 16 MiB where it is not given. */
  earlySyncBytes?: number | undefined;
  random: (bytes: number) => Uint8Array;
  pace: Pace;
  replay?: (entry: ReplayEntry) => void;
  log?: (message: string) => void;
}

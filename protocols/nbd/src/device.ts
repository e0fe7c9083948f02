import type { BlockSizes } from "./handshake-codec.ts";

/** What the bytes of a hole read as, without the bytes. */
export interface Zeroes {
  zeroes: number;
}

/** Together exactly what was asked for, in order. */
export type ReadResult = Uint8Array | readonly (Uint8Array | Zeroes)[];

/** `hole`: nothing is stored there. `zero`: it reads as zeroes. */
export interface BlockExtent {
  length: number;
  hole: boolean;
  zero: boolean;
}

export interface ReadOptions {
  /** Aborted when nobody waits for the answer any more. */
  signal: AbortSignal;
  /**
   * Memory for the answer to a read, which is used again once that has left. It, or views of it, may be in
   * this answer alone; a device that keeps it, or has its own, need not give it back.
   */
  lend?(lengthBytes: number): Buffer;
}

export interface WriteOptions {
  /** Answer only when this request's data is on stable storage. */
  fua: boolean;
}

export interface ZeroOptions extends WriteOptions {
  /** Keep the range allocated, so that later writes to it find room. */
  noHole: boolean;
  /** Throw NbdError ENOTSUP at once, unless this is quicker than writing zeroes would be. */
  fast: boolean;
}

export interface BlockStatusOptions extends ReadOptions {
  /** More extents than this are of no use. */
  maxExtents: number;
}

/**
 * A block device that the server shows to clients. Requests run in parallel and in no order, except that
 * a flush covers all that was answered before it came. Offsets and lengths are multiples of
 * `blockSizes.minimum` and within `sizeBytes`; lengths are not 0. A method that has its answer at hand
 * gives it without a promise. Failures: NbdError says which errno; system errors are mapped; the rest is EIO.
 */
export interface BlockDevice {
  /** May change at any time (clients learn of it only when they connect again). */
  readonly sizeBytes: number;
  readonly blockSizes: BlockSizes;
  readonly readOnly: boolean;
  /** A flush or FUA on one connection covers the writes that others were told are done. */
  readonly multiConn: boolean;
  readonly rotational?: boolean;
  /**
   * The bytes given may go out later, without a copy: they may be of live memory, but not of a buffer that
   * is used anew for something else.
   */
  read(offset: number, length: number, options: ReadOptions): ReadResult | Promise<ReadResult>;
  /** `data` is lent: once the write is answered, its memory is used for another one. */
  write(offset: number, data: Buffer, options: WriteOptions): void | Promise<void>;
  flush(): void | Promise<void>;
  /** Frees what it can of a range; what is read there afterwards is not defined by NBD. */
  trim?(offset: number, length: number, options: WriteOptions): void | Promise<void>;
  writeZeroes?(offset: number, length: number, options: ZeroOptions): void | Promise<void>;
  /** A hint that the range will be read soon. */
  cache?(offset: number, length: number, options: ReadOptions): void | Promise<void>;
  /** Extents from `offset` on, at least one; they may end before `length` or go beyond it. */
  blockStatus?(
    offset: number,
    length: number,
    options: BlockStatusOptions,
  ): readonly BlockExtent[] | Promise<readonly BlockExtent[]>;
}

/** A device under the name by which clients ask for it. */
export interface Export {
  /** At most 4096 bytes; "" is the default export. */
  name: string;
  device: BlockDevice;
  /** For people. */
  description?: string;
  /** Refuse writes, whatever the device allows. */
  readOnly?: boolean;
  /** Every write counts as one with FUA: for clients that hardly flush, like firmware. */
  everyWriteFua?: boolean;
}

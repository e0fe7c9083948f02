import {
  chunkHeaderBytes,
  encodeBlockStatus,
  encodeError,
  putChunkHeader,
  putSimpleReply,
  type Request,
  simpleReplyBytes,
} from "./codec.ts";
import type { BlockExtent, ReadResult } from "./device.ts";
import type { Output } from "./output.ts";
import { Command, CommandFlag, Errno, type ErrnoName, ReplyType, StateFlag } from "./protocol.ts";

/** Descriptors in one answer: a client that wants to know more asks again. */
export const maxExtents = 2048;
const zeroes = Buffer.alloc(256 * 1024);

/** Answers as the client chose them: simple, or in structured chunks. */
export class Replies {
  readonly #output: Output;
  readonly #structured: boolean;
  readonly #allocationId: number | undefined;

  constructor(output: Output, chosen: { structured: boolean; allocationId: number | undefined }) {
    this.#output = output;
    this.#structured = chosen.structured;
    this.#allocationId = chosen.allocationId;
  }

  done(request: Request): void {
    const output = this.#output;
    if (request.command === Command.read && this.#structured) {
      const at = output.header(chunkHeaderBytes);
      putChunkHeader(output.slab, at, { type: ReplyType.none, done: true, length: 0 }, request);
    } else {
      const at = output.header(simpleReplyBytes);
      putSimpleReply(output.slab, at, 0, request);
    }
  }

  read(request: Request, result: ReadResult): void {
    const pieces = result instanceof Uint8Array ? [result] : result.filter((piece) => sizeOf(piece) > 0);
    const output = this.#output;
    if (sum(pieces, sizeOf) !== request.length) {
      throw new Error(`the device read ${sum(pieces, sizeOf)} bytes where ${request.length} were asked for`);
    }
    if (request.length === 0) this.done(request);
    else if (!this.#structured) {
      const at = output.header(simpleReplyBytes);
      putSimpleReply(output.slab, at, 0, request);
      this.#putPieces(pieces);
    } else if (pieces.every((piece) => !(piece instanceof Uint8Array))) {
      this.#putHole(request, request.offset, request.length, true);
    } else if ((request.flags & CommandFlag.df) !== 0) {
      this.#putData(request, request.offset, pieces, true);
    } else {
      let offset = request.offset;
      for (let i = 0; i < pieces.length; ) {
        const isHole = !(pieces[i] instanceof Uint8Array);
        let end = i + 1;
        while (end < pieces.length && !(pieces[end] instanceof Uint8Array) === isHole) end += 1;
        const run = end - i === pieces.length ? pieces : pieces.slice(i, end);
        const length = sum(run, sizeOf);
        const done = end === pieces.length;
        if (isHole) this.#putHole(request, offset, length, done);
        else this.#putData(request, offset, run, done);
        offset += length;
        i = end;
      }
    }
  }

  #putHole(request: Request, offset: number, length: number, done: boolean): void {
    const output = this.#output;
    const at = output.header(chunkHeaderBytes + 12);
    putChunkHeader(output.slab, at, { type: ReplyType.offsetHole, done, length: 12 }, request);
    putOffset(output.slab, at + chunkHeaderBytes, offset);
    output.slab.writeUInt32BE(length, at + chunkHeaderBytes + 8);
  }

  #putData(request: Request, offset: number, pieces: Pieces, done: boolean): void {
    const output = this.#output;
    const length = 8 + sum(pieces, sizeOf);
    const at = output.header(chunkHeaderBytes + 8);
    putChunkHeader(output.slab, at, { type: ReplyType.offsetData, done, length }, request);
    putOffset(output.slab, at + chunkHeaderBytes, offset);
    this.#putPieces(pieces);
  }

  #putPieces(pieces: Pieces): void {
    for (const piece of pieces) {
      if (piece instanceof Uint8Array) this.#output.data(piece);
      else {
        for (let left = piece.zeroes; left > 0; left -= zeroes.length) {
          this.#output.data(left < zeroes.length ? zeroes.subarray(0, left) : zeroes);
        }
      }
    }
  }

  blockStatus(request: Request, extents: readonly BlockExtent[]): void {
    const most = (request.flags & CommandFlag.reqOne) !== 0 ? 1 : maxExtents;
    const descriptors: number[] = [];
    let left = request.length;
    for (const extent of extents) {
      const state = (extent.hole ? StateFlag.hole : 0) | (extent.zero ? StateFlag.zero : 0);
      const length = Math.min(left, extent.length);
      if (length <= 0) continue;
      left -= length;
      if (descriptors.at(-1) === state) descriptors[descriptors.length - 2]! += length;
      else if (descriptors.length === 2 * most) break;
      else descriptors.push(length, state);
    }
    if (descriptors.length === 0) throw new Error("the device gave no block status");
    this.#putChunk(
      request,
      ReplyType.blockStatus,
      encodeBlockStatus(this.#allocationId as number, descriptors),
    );
  }

  error(request: Request, errno: ErrnoName, message: string, offset?: number): void {
    const output = this.#output;
    if (this.#structured) {
      const type = offset === undefined ? ReplyType.error : ReplyType.errorOffset;
      this.#putChunk(request, type, encodeError(Errno[errno], message, offset));
    } else {
      const at = output.header(simpleReplyBytes);
      putSimpleReply(output.slab, at, Errno[errno], request);
    }
  }

  #putChunk(request: Request, type: number, payload: Buffer): void {
    const output = this.#output;
    const at = output.header(chunkHeaderBytes);
    putChunkHeader(output.slab, at, { type, done: true, length: payload.length }, request);
    output.data(payload);
  }
}

type Pieces = readonly (Uint8Array | { zeroes: number })[];

function sizeOf(piece: Uint8Array | { zeroes: number }): number {
  return piece instanceof Uint8Array ? piece.length : piece.zeroes;
}

function sum<T>(values: readonly T[], of: (value: T) => number): number {
  let total = 0;
  for (const value of values) total += of(value);
  return total;
}

function putOffset(to: Buffer, at: number, offset: number): void {
  to.writeUInt32BE(Math.floor(offset / 2 ** 32), at);
  to.writeUInt32BE(offset % 2 ** 32, at + 4);
}

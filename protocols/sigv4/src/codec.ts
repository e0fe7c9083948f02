import { fail } from "./errors.ts";

/**
 * The framing of aws-chunked bodies: bytes in, events out, no sockets and no signatures.
 *
 *     10000;chunk-signature=<64 hex>\r\n <65536 bytes> \r\n … 0;chunk-signature=<64 hex>\r\n
 *     x-amz-checksum-crc32c:sOO8/Q==\r\n x-amz-trailer-signature:<64 hex>\r\n \r\n
 *
 * Clients end trailers in several ways (`\n`, empty lines before or between them): all are read.
 */
export type ChunkEvent =
  | { type: "chunk"; sizeBytes: number; signature: string | undefined }
  | { type: "data"; bytes: Uint8Array }
  /** Of the chunk whose data has come. */
  | { type: "chunk-end" }
  | { type: "trailer"; name: string; value: string };

export interface ChunkCodecOptions {
  /** Each chunk has a signature. */
  signed: boolean;
  /** Headers may follow the last chunk. */
  trailer: boolean;
  /** `x-amz-decoded-content-length`. */
  decodedBytes: number;
}

const longestLine = 1024;
const longestTrailer = 16_384;
const cr = 0x0d;
const lf = 0x0a;

type State = "header" | "data" | "data-end" | "trailer";

export class ChunkCodec {
  readonly #options: ChunkCodecOptions;
  #state: State = "header";
  #line = "";
  /** Of the present chunk. */
  #left = 0;
  /** Of the whole body. */
  #unannounced: number;
  #trailerBytes = 0;
  #last = false;

  constructor(options: ChunkCodecOptions) {
    this.#options = options;
    this.#unannounced = options.decodedBytes;
  }

  /** What `bytes` complete. Data are views of `bytes`, not copies. */
  *push(bytes: Uint8Array): Generator<ChunkEvent, void, undefined> {
    let at = 0;
    while (at < bytes.length) {
      if (this.#state === "data") {
        const piece = bytes.subarray(at, at + this.#left);
        at += piece.length;
        this.#left -= piece.length;
        if (this.#left === 0) this.#state = "data-end";
        yield { type: "data", bytes: piece };
        if (this.#left === 0) yield { type: "chunk-end" };
        continue;
      }
      const end = bytes.indexOf(lf, at);
      const stop = end < 0 ? bytes.length : end;
      this.#grow(bytes, at, stop);
      at = stop + 1;
      if (end < 0) return;
      const line = this.#line.endsWith("\r") ? this.#line.slice(0, -1) : this.#line;
      if (this.#state === "data-end" && this.#line !== "\r") {
        throw fail("CHUNK_MALFORMED", { why: "a chunk's data does not end with a line end" });
      }
      this.#line = "";
      yield* this.#take(line);
    }
  }

  /** To be called at the end of the body: throws where it is not whole. */
  finish(): void {
    if (!this.#last) throw fail("BODY_INCOMPLETE", { why: "the last chunk, of size 0, has not come" });
    if (this.#line.replace("\r", "") !== "") {
      throw fail("BODY_INCOMPLETE", { why: "it ends within a trailing header" });
    }
  }

  #grow(bytes: Uint8Array, from: number, to: number): void {
    const length = to - from + this.#line.length;
    if (this.#state === "data-end") {
      if (length > 1 || (to > from && bytes[from] !== cr)) {
        throw fail("CHUNK_MALFORMED", { why: "a chunk's data is longer than announced" });
      }
    } else if (this.#state === "trailer") {
      this.#trailerBytes += to - from + 1;
      if (this.#trailerBytes > longestTrailer) throw fail("TRAILER_MALFORMED", { why: "they are too long" });
    } else if (length > longestLine) {
      throw fail("CHUNK_MALFORMED", { why: "a chunk's first line is too long" });
    }
    this.#line += Buffer.from(bytes.buffer, bytes.byteOffset + from, to - from).toString("latin1");
  }

  *#take(line: string): Generator<ChunkEvent, void, undefined> {
    if (this.#state === "data-end") {
      this.#state = "header";
    } else if (this.#state === "header") {
      const { sizeBytes, signature } = this.#header(line);
      this.#unannounced -= sizeBytes;
      this.#left = sizeBytes;
      this.#last = sizeBytes === 0;
      this.#state = this.#last ? "trailer" : "data";
      yield { type: "chunk", sizeBytes, signature };
      if (this.#last) yield { type: "chunk-end" };
    } else if (line !== "") {
      yield this.#trailer(line);
    }
  }

  #header(line: string): { sizeBytes: number; signature: string | undefined } {
    const match = /^([0-9a-fA-F]{1,13})[ \t]*(?:;[ \t]*(.*))?$/.exec(line);
    if (match === null) throw fail("CHUNK_MALFORMED", { why: "a chunk begins with no size" });
    const sizeBytes = Number.parseInt(match[1] as string, 16);
    const signature = /^chunk-signature=([0-9a-f]{64})[ \t]*$/.exec(match[2] ?? "")?.[1];
    if (this.#options.signed && signature === undefined) {
      throw fail("CHUNK_MALFORMED", { why: "a chunk has no signature" });
    }
    if (sizeBytes > this.#unannounced) {
      throw fail("BODY_INCOMPLETE", {
        why: `its chunks have more than the ${this.#options.decodedBytes} bytes of x-amz-decoded-content-length`,
      });
    }
    if (sizeBytes === 0 && this.#unannounced > 0) {
      throw fail("BODY_INCOMPLETE", {
        why: `${this.#unannounced} of the ${this.#options.decodedBytes} bytes of x-amz-decoded-content-length are missing`,
      });
    }
    return { sizeBytes, signature: this.#options.signed ? signature : undefined };
  }

  #trailer(line: string): ChunkEvent {
    if (!this.#options.trailer) throw fail("CHUNK_MALFORMED", { why: "something follows the last chunk" });
    const colon = line.indexOf(":");
    const name = line.slice(0, Math.max(colon, 0)).toLowerCase();
    if (!/^[a-z0-9!#$%&'*+.^_`|~-]{1,128}$/.test(name)) {
      throw fail("TRAILER_MALFORMED", { why: "a line is not NAME:VALUE" });
    }
    return { type: "trailer", name, value: line.slice(colon + 1).replace(/^[ \t]+|[ \t]+$/g, "") };
  }
}

import type { Duplex } from "node:stream";
import type { Payloads } from "./payloads.ts";

/** Shorter pieces are copied together: that costs less than an entry of writev each. */
const copyBytes = 16 * 1024;
const slabBytes = 64 * 1024;
const keptSlabs = 2;

/** Calls back with what has left for the kernel: how many requests it answered, and their bytes. */
export type OnSent = (requests: number, bytes: number) => void;

/** Gathers replies, and sends all that are there at once. */
export class Output {
  readonly #socket: Duplex;
  readonly #payloads: Payloads;
  readonly #onSent: OnSent;
  readonly #spare: Buffer[] = [];
  #slab: Buffer | undefined;
  /** Of the slab: what stands before `#from` is in `#pieces` already. */
  #from = 0;
  #used = 0;
  #pieces: Uint8Array[] = [];
  #slabs: Buffer[] = [];
  #answers: Uint8Array[] = [];
  #requests = 0;
  #bytes = 0;
  #scheduled = false;

  constructor(socket: Duplex, payloads: Payloads, onSent: OnSent) {
    this.#socket = socket;
    this.#payloads = payloads;
    this.#onSent = onSent;
  }

  /** Room for a header of `count` bytes: write it into `slab` from the position given. */
  header(count: number): number {
    if (this.#slab === undefined || slabBytes - this.#used < count) this.#nextSlab();
    const at = this.#used;
    this.#used += count;
    return at;
  }

  get slab(): Buffer {
    return this.#slab as Buffer;
  }

  data(bytes: Uint8Array): void {
    if (this.#payloads.takeAnswer(bytes.buffer)) this.#answers.push(bytes);
    if (bytes.length <= copyBytes) {
      if (this.#slab === undefined || slabBytes - this.#used < bytes.length) this.#nextSlab();
      (this.#slab as Buffer).set(bytes, this.#used);
      this.#used += bytes.length;
      return;
    }
    this.#cut();
    this.#pieces.push(bytes);
  }

  /** A request's answer is complete; `bytes` is what was counted for it. */
  answered(bytes: number): void {
    this.#requests += 1;
    this.#bytes += bytes;
  }

  /** Sends at the end of this turn of the event loop, with whatever else is answered in it. */
  schedule(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    setImmediate(() => {
      this.#scheduled = false;
      this.flush();
    });
  }

  flush(): void {
    this.#cut();
    if (this.#pieces.length === 0) return;
    const [pieces, slabs, answers] = [this.#pieces, this.#slabs, this.#answers];
    const [requests, bytes] = [this.#requests, this.#bytes];
    if (this.#slab !== undefined) slabs.push(this.#slab);
    this.#slab = undefined;
    this.#pieces = [];
    this.#slabs = [];
    this.#answers = [];
    this.#requests = 0;
    this.#bytes = 0;
    const sent = () => {
      for (const answer of answers) this.#payloads.release(answer);
      for (const slab of slabs) if (this.#spare.length < keptSlabs) this.#spare.push(slab);
      this.#onSent(requests, bytes);
    };
    // Where the connection is lost the callback comes as well, and nobody reads the answers.
    if (pieces.length === 1) {
      this.#socket.write(pieces[0], sent);
      return;
    }
    this.#socket.cork();
    for (const [index, piece] of pieces.entries()) {
      if (index < pieces.length - 1) this.#socket.write(piece);
      else this.#socket.write(piece, sent);
    }
    this.#socket.uncork();
  }

  #cut(): void {
    if (this.#slab === undefined || this.#used === this.#from) return;
    this.#pieces.push(this.#slab.subarray(this.#from, this.#used));
    this.#from = this.#used;
  }

  #nextSlab(): void {
    this.#cut();
    if (this.#slab !== undefined) this.#slabs.push(this.#slab);
    this.#slab = this.#spare.pop() ?? Buffer.allocUnsafeSlow(slabBytes);
    this.#from = 0;
    this.#used = 0;
  }
}

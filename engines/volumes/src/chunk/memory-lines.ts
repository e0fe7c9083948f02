import type { StoredChunk } from "./fetch.ts";
import { chunkObjectKey } from "./names.ts";

/** What is fetched of a chunk at once, and known to be there or not. */
export const lineBytes = 64 * 1024;

/** Lines of all chunks in memory: those used last, as many as there is room for. */
export class MemoryLines {
  readonly #limitBytes: number;
  readonly #lines = new Map<string, Uint8Array>();
  #bytes = 0;

  constructor(limitBytes: number) {
    this.#limitBytes = limitBytes;
  }

  /** The bytes from `start` to `end`; undefined where a line of them is not here. */
  read(chunk: StoredChunk, start: number, end: number): Uint8Array | undefined {
    const key = chunkObjectKey(chunk.name);
    const pieces: Uint8Array[] = [];
    for (let at = start - (start % lineBytes); at < end; at += lineBytes) {
      const id = `${key}/${at}`;
      const line = this.#lines.get(id);
      if (line === undefined) return undefined;
      this.#lines.delete(id);
      this.#lines.set(id, line);
      pieces.push(line.subarray(Math.max(0, start - at), Math.min(line.length, end - at)));
    }
    return pieces.length === 1 ? pieces[0] : Buffer.concat(pieces);
  }

  /** `position`: of a line. The bytes are copied, so that they keep nothing else in memory. */
  write(chunk: StoredChunk, position: number, bytes: Uint8Array): void {
    const key = chunkObjectKey(chunk.name);
    for (let at = 0; at < bytes.length; at += lineBytes) {
      const line = Buffer.allocUnsafeSlow(Math.min(lineBytes, bytes.length - at));
      line.set(bytes.subarray(at, at + line.length));
      const id = `${key}/${position + at}`;
      this.#drop(id);
      this.#lines.set(id, line);
      this.#bytes += line.length;
    }
    for (const id of this.#lines.keys()) {
      if (this.#bytes <= this.#limitBytes) break;
      this.#drop(id);
    }
  }

  forget(chunk: StoredChunk): void {
    const key = chunkObjectKey(chunk.name);
    for (let at = 0; at < chunk.sizeBytes; at += lineBytes) this.#drop(`${key}/${at}`);
  }

  #drop(id: string): void {
    const line = this.#lines.get(id);
    if (line === undefined) return;
    this.#lines.delete(id);
    this.#bytes -= line.length;
  }
}

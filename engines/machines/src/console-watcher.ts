import { Readable } from "node:stream";

const maxHeldBytes = 1024 * 1024;

/**
 * What one watcher has yet to read of a console. The guest never waits for a watcher: what does not
 * fit is left out, and the watcher told how much that was.
 */
export class ConsoleWatcher {
  readonly output: Readable;
  #skippedBytes = 0;
  #ended = false;

  constructor() {
    this.output = new Readable({ read: () => this.#resume(), highWaterMark: 64 * 1024 });
    this.output.on("error", () => {}); // a reader that destroyed it with an error has said all
  }

  push(bytes: Uint8Array): void {
    if (this.#ended || this.output.destroyed) return;
    if (this.#skippedBytes > 0 || this.output.readableLength + bytes.length > maxHeldBytes) {
      this.#skippedBytes += bytes.length;
    } else {
      this.output.push(bytes);
    }
  }

  end(): void {
    if (this.#ended) return;
    this.#resume();
    this.#ended = true;
    this.output.push(null);
  }

  #resume(): void {
    if (this.#skippedBytes === 0 || this.#ended) return;
    const notice = `\r\n[skep: ${this.#skippedBytes} bytes were left out, for this console was read too slowly]\r\n`;
    this.#skippedBytes = 0;
    this.output.push(notice);
  }
}

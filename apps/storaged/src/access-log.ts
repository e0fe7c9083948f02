import { LogFile } from "@skep/daemon";
import type { RequestRecord } from "@skep/s3";

const limitBytes = 64 * 1024 * 1024;
const flushMs = 250;
const flushBytes = 64 * 1024;

/**
 * A line of JSON a request, in `storaged-access.log`; at 64 MiB it moves aside as `storaged-access.log.1`.
 * Lines are gathered for a quarter of a second: a write each would slow down small requests.
 */
export class AccessLog implements Disposable {
  readonly #file: LogFile;
  #waiting = "";
  #timer: NodeJS.Timeout | undefined;

  constructor(path: string) {
    this.#file = new LogFile(path, limitBytes);
  }

  write(record: RequestRecord): void {
    this.#waiting += `${JSON.stringify({ time: new Date().toISOString(), ...record })}\n`;
    if (this.#waiting.length >= flushBytes) this.#flush();
    else this.#timer ??= setTimeout(() => this.#flush(), flushMs).unref();
  }

  #flush(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    if (this.#waiting !== "") this.#file.write(this.#waiting);
    this.#waiting = "";
  }

  [Symbol.dispose](): void {
    this.#flush();
    this.#file.close();
  }
}

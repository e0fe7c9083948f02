/**
 * The cheapest HTTP client there can be, so that the time measured is the server's: requests are signed
 * and written out before the clock starts, answers are read only as far as needed. Keep-alive, one
 * request at a time on each connection.
 */
import { connect, type Socket } from "node:net";
import { type SigningKeys, signRequest } from "@skep/sigv4";

export interface Endpoint {
  host: string;
  port: number;
  bucket: string;
  credentials: { accessKeyId: string; secret: string };
  region: string;
}

export interface Call {
  head: Buffer;
  body?: Uint8Array;
}

/** `target` is below the bucket: `key` or `?list-type=2`. */
export function call(
  endpoint: Endpoint,
  method: string,
  target: string,
  keys: SigningKeys,
  body?: { bytes?: Uint8Array; sizeBytes: number; sha256: string },
): Call {
  const { host, port, bucket, credentials, region } = endpoint;
  const request = {
    method,
    target: `/${bucket}${target.startsWith("?") || target === "" ? target : `/${target}`}`,
    headers: {
      host: `${host}:${port}`,
      ...(body === undefined ? {} : { "content-length": String(body.sizeBytes) }),
    },
  };
  const payload = body?.sha256 ?? "UNSIGNED-PAYLOAD";
  const { headers } = signRequest(request, credentials, { region, now: Date.now(), payload, keys });
  const lines = Object.entries({ ...request.headers, ...headers }).map(
    ([name, value]) => `${name}: ${value}`,
  );
  const head = Buffer.from(`${method} ${request.target} HTTP/1.1\r\n${lines.join("\r\n")}\r\n\r\n`, "latin1");
  return body?.bytes === undefined ? { head } : { head, body: body.bytes };
}

export interface Answer {
  status: number;
  sizeBytes: number;
  /** Only of answers that were asked to be kept. */
  text: string;
}

/** One connection. `send` must not be called again before it is answered. */
export class Line {
  readonly #socket: Socket;
  #head = "";
  #status = 0;
  #left = -1;
  #sizeBytes = 0;
  /** Of an answer in chunks, which only lists have: all of it is collected. */
  #chunks: Buffer[] | undefined;
  #kept: Buffer[] | undefined;
  #done: ((answer: Answer) => void) | undefined;
  #failed: ((error: Error) => void) | undefined;

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.on("data", (bytes) => this.#read(bytes));
    const failed = (error?: Error) => this.#failed?.(error ?? new Error("the server closed the connection"));
    socket.on("error", failed);
    socket.on("close", () => failed());
  }

  static async open({ host, port }: Endpoint): Promise<Line> {
    const socket = connect({ host, port, noDelay: true });
    await new Promise<void>((resolve, reject) => {
      socket.once("connect", resolve);
      socket.once("error", reject);
    });
    return new Line(socket);
  }

  send(what: Call, keep = false): Promise<Answer> {
    this.#head = "";
    this.#left = -1;
    this.#chunks = undefined;
    this.#kept = keep ? [] : undefined;
    return new Promise((resolve, reject) => {
      this.#done = resolve;
      this.#failed = reject;
      if (what.body === undefined) {
        this.#socket.write(what.head);
      } else {
        this.#socket.cork();
        this.#socket.write(what.head);
        this.#socket.write(what.body);
        this.#socket.uncork();
      }
    });
  }

  /** Sends the head, then as many zero bytes as announced, no faster than they are taken. */
  async sendStream(head: Buffer, sizeBytes: number): Promise<Answer> {
    const answer = this.send({ head });
    const piece = Buffer.alloc(1024 * 1024);
    for (let left = sizeBytes; left > 0; left -= piece.length) {
      if (this.#socket.write(piece.subarray(0, Math.min(left, piece.length)))) continue;
      const drained = new Promise<void>((resolve) => this.#socket.once("drain", resolve));
      await Promise.race([drained, answer]);
    }
    return answer;
  }

  #read(bytes: Buffer): void {
    let rest = bytes;
    if (this.#left < 0 && this.#chunks === undefined) {
      this.#head += bytes.toString("latin1");
      const end = this.#head.indexOf("\r\n\r\n");
      if (end < 0) return;
      const head = this.#head.slice(0, end).toLowerCase();
      rest = bytes.subarray(bytes.length - (this.#head.length - end - 4));
      this.#status = Number(head.slice(9, 12));
      const length = /\r\ncontent-length: *(\d+)/.exec(head)?.[1];
      if (head.includes("\r\ntransfer-encoding: chunked")) this.#chunks = [];
      this.#left = this.#sizeBytes = Number(length ?? 0);
    }
    this.#kept?.push(rest);
    if (this.#chunks !== undefined) {
      this.#chunks.push(rest);
      if (Buffer.concat(this.#chunks.slice(-2)).subarray(-5).toString("latin1") !== "0\r\n\r\n") return;
    } else {
      this.#left -= rest.length;
      if (this.#left > 0) return;
    }
    this.#chunks = undefined;
    const text = this.#kept === undefined ? "" : Buffer.concat(this.#kept).toString();
    this.#done?.({ status: this.#status, sizeBytes: this.#sizeBytes, text });
  }

  close(): void {
    this.#failed = undefined;
    this.#socket.destroy();
  }
}

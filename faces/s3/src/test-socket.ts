import { hash } from "node:crypto";
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { signRequest } from "@skep/sigv4";
import type { TestServer, TestUser } from "./test-server.ts";

/** A connection of which every byte is the test's own. */
export class RawConnection implements Disposable {
  readonly socket: Socket;
  received = "";
  ended = false;

  constructor(socket: Socket) {
    this.socket = socket;
    socket.setEncoding("latin1");
    socket.on("data", (text: string) => {
      this.received += text;
    });
    socket.on("error", () => {});
    const onEnd = () => {
      this.ended = true;
      socket.end();
    };
    socket.on("end", onEnd).on("close", onEnd);
  }

  static async open(
    server: Pick<TestServer, "port">,
    options: { paused?: boolean } = {},
  ): Promise<RawConnection> {
    const socket = connect({ port: server.port, host: "127.0.0.1", allowHalfOpen: true });
    const connection = new RawConnection(socket);
    if (options.paused === true) socket.pause();
    await once(socket, "connect");
    return connection;
  }

  write(bytes: string | Uint8Array): void {
    this.socket.write(typeof bytes === "string" ? Buffer.from(bytes, "latin1") : bytes);
  }

  /** Resolves when what came matches, or throws when the connection ends before. */
  async until(pattern: RegExp): Promise<RegExpExecArray> {
    for (;;) {
      const match = pattern.exec(this.received);
      if (match !== null) return match;
      if (this.ended) throw new Error(`the connection ended after ${JSON.stringify(this.received)}`);
      await this.#next();
    }
  }

  /** Everything that came, once the server has ended the connection. */
  async closed(): Promise<string> {
    while (!this.ended) await this.#next();
    return this.received;
  }

  #next(): Promise<void> {
    return new Promise((resolve) => {
      const names = ["data", "end", "close"];
      const done = () => {
        for (const name of names) this.socket.off(name, done);
        resolve();
      };
      for (const name of names) this.socket.on(name, done);
    });
  }

  [Symbol.dispose](): void {
    this.socket.destroy();
  }
}

/** The head of a request, signed for `body`; headers given override. */
export function signedHead(
  server: Pick<TestServer, "port">,
  user: TestUser,
  method: string,
  target: string,
  { headers = {}, payload }: { headers?: Record<string, string>; payload?: string | Uint8Array } = {},
): string {
  const shape = { method, target, headers: { host: `127.0.0.1:${server.port}`, ...headers } };
  const signed = signRequest(shape, user, {
    region: "us-east-1",
    now: Date.now(),
    payload: payload === undefined ? "UNSIGNED-PAYLOAD" : hash("sha256", payload, "hex"),
  }).headers;
  const lines = Object.entries({ ...shape.headers, ...signed }).map(
    ([name, value]) => `${name}: ${value}\r\n`,
  );
  return `${method} ${target} HTTP/1.1\r\n${lines.join("")}\r\n`;
}

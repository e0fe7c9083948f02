import { type AddressInfo, createServer, type Server, type Socket } from "node:net";
import { Transform } from "node:stream";
import type { Console, ConsoleParticipant } from "./console.ts";
import { fail } from "./exec-errors.ts";
import { TelnetCodec } from "./telnet-codec.ts";

const host = "127.0.0.1";
const maxConnections = 16;
const maxWaitingBytes = 4 * 1024 * 1024;

/** A machine's console for telnet clients on this host. */
export class TelnetServer implements AsyncDisposable {
  readonly port: number;
  readonly #server: Server;
  readonly #sockets: Set<Socket>;

  private constructor(server: Server, sockets: Set<Socket>) {
    this.#server = server;
    this.#sockets = sockets;
    this.port = (server.address() as AddressInfo).port;
  }

  /** Port 0 takes a free one. Fails with TELNET_PORT. */
  static async listen(console: Console, port: number): Promise<TelnetServer> {
    const sockets = new Set<Socket>();
    const server = createServer((socket) => serve(console, socket, sockets));
    server.maxConnections = maxConnections;
    await new Promise<void>((resolve, reject) => {
      const onError = (error: NodeJS.ErrnoException) => {
        const why = error.code === "EADDRINUSE" ? "another program uses it" : error.message;
        reject(fail("TELNET_PORT", { name: console.name, host, port, why }, { cause: error }));
      };
      server.once("error", onError);
      server.listen({ host, port, exclusive: true }, () => {
        server.removeListener("error", onError);
        resolve();
      });
    });
    server.on("error", () => {}); // a connection that could not be accepted
    return new TelnetServer(server, sockets);
  }

  async close(): Promise<void> {
    const closed = new Promise((resolve) => this.#server.close(resolve));
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

function serve(console: Console, socket: Socket, sockets: Set<Socket>): void {
  let seat: ConsoleParticipant;
  try {
    seat = console.join();
  } catch {
    socket.end("the machine has stopped\r\n");
    return;
  }
  sockets.add(socket);
  socket.on("error", () => {}); // the client has gone; close follows
  socket.once("close", () => {
    sockets.delete(socket);
    seat.close();
  });
  socket.setNoDelay(true);
  const codec = new TelnetCodec();
  socket.write(codec.greeting());
  socket.on("data", (bytes: Buffer) => {
    const { data, answer } = codec.decode(bytes);
    if (answer.length > 0) socket.write(answer);
    // A client that asks and asks and reads no answers.
    if (socket.writableLength > maxWaitingBytes) socket.destroy();
    if (data.length === 0 || seat.write(data)) return;
    socket.pause();
    seat.onceWritable(() => socket.resume());
  });
  const encoder = new Transform({
    transform(bytes: Buffer, _encoding, done) {
      done(null, codec.encode(bytes));
    },
  });
  seat.output.pipe(encoder).pipe(socket);
}

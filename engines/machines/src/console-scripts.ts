import { chmod, lstat, rm } from "node:fs/promises";
import { createServer, type Server, type Socket } from "node:net";
import { isErrno } from "@skep/base";
import type { Console, ConsoleParticipant } from "./console.ts";

const maxConnections = 64;

/**
 * The console as a Unix socket for scripts: `echo reboot | nc -U console.sock`. Every connection sees
 * what is printed from then on and may write.
 */
export class ConsoleScripts {
  readonly #server: Server;
  /** In order of arrival. */
  readonly #sockets = new Set<Socket>();

  private constructor(console: Console) {
    // Half-open, for `echo … | nc -U` closes its half at once and still wants to see the answer.
    this.#server = createServer({ allowHalfOpen: true }, (socket) => this.#serve(console, socket));
  }

  static async listen(console: Console, path: string): Promise<ConsoleScripts> {
    await removeStaleSocket(path);
    const scripts = new ConsoleScripts(console);
    await new Promise<void>((resolve, reject) => {
      scripts.#server.once("error", reject);
      // The socket is made within this call, so that it never has wider rights than these.
      const umask = process.umask(0o177);
      try {
        scripts.#server.listen({ path }, () => {
          scripts.#server.removeListener("error", reject);
          resolve();
        });
      } finally {
        process.umask(umask);
      }
    });
    scripts.#server.on("error", () => {}); // a connection that could not be accepted
    await chmod(path, 0o600);
    return scripts;
  }

  async close(): Promise<void> {
    const closed = new Promise((resolve) => this.#server.close(resolve));
    // What was printed last has been handed over; a reader that takes nothing more is not waited for.
    for (const socket of this.#sockets) socket.destroySoon();
    const patience = setTimeout(() => {
      for (const socket of this.#sockets) socket.destroy();
    }, 500);
    await closed;
    clearTimeout(patience);
  }

  #serve(console: Console, socket: Socket): void {
    if (this.#sockets.size >= maxConnections) this.#makeRoom();
    let seat: ConsoleParticipant;
    try {
      seat = console.join();
    } catch {
      socket.destroy();
      return;
    }
    this.#sockets.add(socket);
    socket.on("error", () => {}); // the script has gone; close follows
    socket.once("close", () => {
      this.#sockets.delete(socket);
      seat.close();
    });
    socket.on("data", (bytes: Buffer) => {
      if (seat.write(bytes)) return;
      socket.pause();
      seat.onceWritable(() => socket.resume());
    });
    seat.output.pipe(socket);
  }

  /** One that has closed its half may be gone altogether, which shows only when it is written to. */
  #makeRoom(): void {
    const sockets = [...this.#sockets];
    const oldest = sockets.find((socket) => socket.readableEnded) ?? sockets[0];
    if (oldest !== undefined) this.#sockets.delete(oldest);
    oldest?.destroy();
  }
}

async function removeStaleSocket(path: string): Promise<void> {
  try {
    if ((await lstat(path)).isSocket()) await rm(path);
  } catch (error) {
    if (!isErrno(error, "ENOENT")) throw error;
  }
}

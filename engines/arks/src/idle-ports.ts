import { createSocket } from "node:dgram";
import { once } from "node:events";
import { createServer, type Socket } from "node:net";
import { setImmediate as nextTurn, setTimeout as sleep } from "node:timers/promises";
import type { Port } from "@skep/api/schemas";
import { forwardName } from "@skep/machines";
import { pipeTo } from "./idle-pipe.ts";
import { acceptQueue } from "./idle-tcp.ts";

/** Connections that wait for one machine at the same time. */
const mostWaiting = 512;
/** So long those are taken in that still come while a port is released; a flood of them has no end. */
const drainLimitMs = 3000;
/** How often it is looked whether QEMU has accepted a connection, and how long. */
const acceptPollMs = 2;
const acceptLimitMs = 1000;

export interface HeldPortsOptions {
  /** Told of everybody who wants something from the machine. */
  onCall(): void;
  /** Whether such a connection is skep's own: it waits like all others, and does not call. */
  isOwn(client: Socket): boolean;
}

interface Listener {
  port: Port;
  /** How many connections so far. */
  accepted: number;
  /** The port is free when this returns; what was accepted stays. */
  close(): void;
}

/**
 * Listens on the ports of a machine that sleeps. Connections are accepted and stand still until they are handed
 * on to the guest, or closed. A datagram is lost, as datagrams may be.
 */
export class HeldPorts {
  readonly #listeners = new Map<string, Listener>();
  readonly #waiting = new Map<string, Set<Socket>>();
  readonly #pipes = new Set<Socket>();
  readonly #options: HeldPortsOptions;
  #destroyed = false;

  constructor(options: HeldPortsOptions) {
    this.#options = options;
  }

  /** Has exactly these ports listened on; gives those that cannot be, with why. AbortError once destroyed. */
  async listen(ports: readonly Port[]): Promise<{ port: Port; why: string }[]> {
    const wanted = new Map(ports.map((port) => [forwardName(port), port]));
    for (const name of [...this.#listeners.keys()]) {
      if (!wanted.has(name)) this.#drop(name);
    }
    const failed: { port: Port; why: string }[] = [];
    for (const [name, port] of wanted) {
      if (this.#listeners.has(name)) continue;
      try {
        const opening = port.protocol === "tcp" ? this.#listenTcp(name, port) : this.#listenUdp(port);
        const listener = await opening;
        if (this.#destroyed) listener.close();
        else this.#listeners.set(name, listener);
      } catch (error) {
        const { code, message } = error as NodeJS.ErrnoException;
        failed.push({ port, why: code === "EADDRINUSE" ? "another program uses it" : message });
      }
    }
    if (this.#destroyed) throw new DOMException("the ports are given up", "AbortError");
    return failed;
  }

  get isCalled(): boolean {
    const called = (client: Socket) => !this.#options.isOwn(client);
    return [...this.#waiting.values()].some((sockets) => [...sockets].some(called));
  }

  /** Frees a port, for the guest's QEMU to listen there; connections wait on, also those not accepted until now. */
  async release(port: Port): Promise<void> {
    const name = forwardName(port);
    const listener = this.#listeners.get(name);
    if (listener === undefined) return;
    // A turn of the loop accepts one, and a close resets those who are next: it follows at once upon a whole turn
    // that has found nobody.
    const limit = performance.now() + drainLimitMs;
    let before: number;
    await nextTurn();
    do {
      before = listener.accepted;
      await nextTurn();
    } while (listener.accepted > before && performance.now() < limit);
    if (this.#listeners.get(name) !== listener) return;
    listener.close();
    this.#listeners.delete(name);
  }

  /** Hands the connections that wait for a port on to the one where the guest is reached now. */
  handOn(port: Port, to: Pick<Port, "hostAddress" | "hostPort">): void {
    const name = forwardName(port);
    const clients = [...(this.#waiting.get(name) ?? [])];
    this.#waiting.delete(name);
    for (const client of clients) {
      this.#pipes.add(client);
      client.once("close", () => this.#pipes.delete(client));
    }
    void passOn(clients, to);
  }

  /** Ends the connections that wait: nobody will answer them. */
  hangUp(): void {
    for (const sockets of this.#waiting.values()) for (const client of sockets) client.resetAndDestroy();
    this.#waiting.clear();
  }

  /** Frees all ports at once, and ends what waits; connections that were handed on go on. */
  close(): void {
    for (const name of [...this.#listeners.keys()]) this.#drop(name);
    this.hangUp();
  }

  /** As `close`, for good, and ends what was handed on, too. */
  destroy(): void {
    this.#destroyed = true;
    this.close();
    for (const client of this.#pipes) client.resetAndDestroy();
  }

  #drop(name: string): void {
    this.#listeners.get(name)?.close();
    this.#listeners.delete(name);
    for (const client of this.#waiting.get(name) ?? []) client.resetAndDestroy();
    this.#waiting.delete(name);
  }

  async #listenTcp(name: string, port: Port): Promise<Listener> {
    const listener = { port, accepted: 0, close: () => void server.close() };
    const server = createServer({ allowHalfOpen: true, pauseOnConnect: true }, (client) => {
      listener.accepted += 1;
      const waiting = this.#waiting.get(name) ?? new Set();
      this.#waiting.set(name, waiting.add(client));
      client.on("error", () => {}); // close follows
      client.once("close", () => waiting.delete(client));
      if (!this.#options.isOwn(client)) this.#options.onCall();
    });
    server.maxConnections = mostWaiting;
    server.listen({ host: port.hostAddress, port: port.hostPort, exclusive: true });
    await once(server, "listening");
    server.on("error", () => {}); // a connection that could not be accepted
    return listener;
  }

  async #listenUdp(port: Port): Promise<Listener> {
    const socket = createSocket("udp4");
    socket.bind({ address: port.hostAddress, port: port.hostPort, exclusive: true });
    await once(socket, "listening");
    socket.on("error", () => {});
    socket.on("message", () => this.#options.onCall());
    return { port, accepted: 0, close: () => void socket.close() };
  }
}

/** One at a time: QEMU listens with a queue of one, and who finds it full is heard after a second or more. */
async function passOn(clients: Socket[], to: Pick<Port, "hostAddress" | "hostPort">): Promise<void> {
  const listener = { address: to.hostAddress, port: to.hostPort };
  const host = to.hostAddress === "0.0.0.0" ? "127.0.0.1" : to.hostAddress;
  for (const client of clients) {
    for (const limit = performance.now() + acceptLimitMs; (await acceptQueue(listener)) > 0; ) {
      if (performance.now() > limit) break;
      await sleep(acceptPollMs);
    }
    if (!client.destroyed) await pipeTo(client, { host, port: to.hostPort });
  }
}

import type { Socket } from "node:net";

/** How long Linux remembers a TCP connection that was closed here (TCP_TIMEWAIT_LEN). */
export const timeWaitMs = 60_000;
const spareMs = 5000;

/** One end of a TCP connection over IPv4. */
export interface TcpEnd {
  address: string;
  port: number;
}

/** Who works with a machine's guest: what tells an idle one from one that is used. */
export class Uses {
  #count = 0;
  #endedAt = performance.now();
  readonly #own = new Map<string, Socket>();

  /** Somebody uses it, until what this gives back is called. */
  begin(): () => void {
    this.#count += 1;
    let over = false;
    return () => {
      if (over) return;
      over = true;
      this.#count -= 1;
      this.#endedAt = performance.now();
    };
  }

  async during<T>(work: () => Promise<T>): Promise<T> {
    const end = this.begin();
    try {
      return await work();
    } finally {
      end();
    }
  }

  get inUse(): boolean {
    return this.#count > 0;
  }

  /** By `performance.now()`: when the last use was over. */
  get endedAt(): number {
    return this.#endedAt;
  }

  /** A connection to one of its forwards that is just being made and our own, as of a check: nobody's use of it. */
  ownConnection(socket: Socket, to: { host: string; port: number }): void {
    const note = () => {
      const { localAddress: address, localPort: port } = socket;
      if (address === undefined || port === undefined) return;
      const name = nameOf({ address, port }, { address: to.host, port: to.port });
      this.#own.set(name, socket);
      const forget = () => {
        if (this.#own.get(name) === socket) this.#own.delete(name);
      };
      // The host remembers it for a while after its end.
      const later = () => setTimeout(forget, timeWaitMs + spareMs).unref();
      if (socket.destroyed) later();
      else socket.once("close", later);
    };
    // In the very tick in which it sets out and has a port: whoever sees it on this host must not count it.
    process.nextTick(note);
  }

  /** Whether that is a connection of our own to one of its forwards, or one that ended within the last minute. */
  isOwn(from: TcpEnd, to: TcpEnd): boolean {
    return this.#own.has(nameOf(from, to));
  }
}

function nameOf(from: TcpEnd, to: TcpEnd): string {
  return `${from.address}:${from.port} ${to.address}:${to.port}`;
}

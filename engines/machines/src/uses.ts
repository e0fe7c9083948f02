import type { Socket } from "node:net";

/** How long Linux remembers a TCP connection that was closed here (TCP_TIMEWAIT_LEN). */
export const timeWaitMs = 60_000;
const spareMs = 5000;

/** Who works with a machine's guest: what tells an idle one from one that is used. */
export class Uses {
  #count = 0;
  #endedAt = performance.now();
  readonly #ownPorts = new Set<number>();

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

  /** A connection to one of its forwards that is our own, as of a check, and nobody's use of it. */
  ownConnection(socket: Socket): void {
    const note = () => {
      const port = socket.localPort;
      if (port === undefined) return;
      this.#ownPorts.add(port);
      // The host remembers it for a while after its end.
      const forget = () => setTimeout(() => this.#ownPorts.delete(port), timeWaitMs + spareMs).unref();
      if (socket.destroyed) forget();
      else socket.once("close", forget);
    };
    if (socket.connecting) socket.once("connect", note);
    else note();
  }

  /** Local ports of our own connections to its forwards, also of those that ended within the last minute. */
  get ownPorts(): ReadonlySet<number> {
    return this.#ownPorts;
  }
}

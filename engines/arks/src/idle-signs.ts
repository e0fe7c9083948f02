import { networkInterfaces } from "node:os";
import {
  forwardsOf,
  type LiveMachine,
  type ThreadTime,
  threadTimes,
  timeWaitMs,
  wantedShare,
} from "@skep/machines";
import { hostConnections } from "./idle-tcp.ts";

/**
 * A guest that takes more than this share of one processor does something. An emulated Debian at rest takes a
 * fifth of it at the most (docs/state.md).
 */
const busyShare = 0.1;

export interface Signs {
  /** What keeps the machine in use just now, for people; null: nothing. */
  busy: string | null;
  /** How long ago the last use was over that ended by itself, as far as can be told. */
  quietMs: number;
}

/** Looks at what a running machine is used for, all from outside: asking its guest would keep it busy. */
export class IdleSigns {
  readonly #live: LiveMachine;
  #processor: { times: ReadonlyMap<string, ThreadTime>; at: number } | undefined;

  constructor(live: LiveMachine) {
    this.#live = live;
  }

  async look(): Promise<Signs> {
    const share = await this.#processorShare();
    const { open, quietMs } = await this.connections();
    const { machine, console } = this.#live;
    const { uses } = machine;
    const quiet = Math.min(quietMs, performance.now() - uses.endedAt);
    let busy: string | null = null;
    if (machine.state !== "running") busy = `it is ${machine.state}`;
    else if (uses.inUse) busy = "skep works with it";
    else if (console.isWatched) busy = "its console is attached";
    else if (open > 0) busy = `${open === 1 ? "a connection" : `${open} connections`} to its ports`;
    else if (share > busyShare) busy = `its processors work (${Math.round(share * 100)} % of one)`;
    return { busy, quietMs: quiet };
  }

  /** Connections to its forwards that are not our own, and how long ago the last one ended. */
  async connections(): Promise<{ open: number; quietMs: number }> {
    const { machine } = this.#live;
    const forwards = forwardsOf(machine).filter(({ protocol }) => protocol === "tcp");
    if (forwards.length === 0) return { open: 0, quietMs: Number.POSITIVE_INFINITY };
    const local = localAddresses();
    const isForward = (address: string, port: number) =>
      forwards.some(
        ({ hostAddress, hostPort }) =>
          hostPort === port &&
          (hostAddress === "0.0.0.0" ? isOfThisHost(address, local) : address === hostAddress),
      );
    // Each connection from this host has two rows; those of a connection that has ended may have one.
    let open = 0;
    let quietMs = Number.POSITIVE_INFINITY;
    for (const { from, to, state, leftMs } of await hostConnections()) {
      const serves = isForward(from.address, from.port);
      if (!serves && !isForward(to.address, to.port)) continue;
      if (serves ? machine.uses.isOwn(to, from) : machine.uses.isOwn(from, to)) continue;
      if (state === "ended") quietMs = Math.min(quietMs, timeWaitMs - leftMs);
      else if (serves) open += 1;
    }
    return { open, quietMs: Math.max(0, quietMs) };
  }

  /** What it wanted of one processor since it was asked last; a busy host may have given it less. */
  async #processorShare(): Promise<number> {
    const before = this.#processor;
    const times = await threadTimes(this.#live.process.pid);
    const at = performance.now();
    this.#processor = { times, at };
    return before === undefined ? 0 : wantedShare(before.times, times, (at - before.at) / 1000);
  }
}

function localAddresses(): Set<string> {
  const all = Object.values(networkInterfaces()).flatMap((addresses) => addresses ?? []);
  return new Set(all.map(({ address }) => address));
}

function isOfThisHost(address: string, local: ReadonlySet<string>): boolean {
  return address.startsWith("127.") || local.has(address);
}

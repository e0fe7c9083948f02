import { readFile } from "node:fs/promises";
import { networkInterfaces } from "node:os";
import { forwardsOf, type LiveMachine, timeWaitMs } from "@skep/machines";

/** Clock ticks a second in /proc; 100 on every Linux that QEMU runs on. */
const ticksPerSecond = 100;
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
  #processor: { seconds: number; at: number } | undefined;

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
      const client = serves ? to : from;
      if (isOfThisHost(client.address, local) && machine.uses.ownPorts.has(client.port)) continue;
      if (state === "ended") quietMs = Math.min(quietMs, timeWaitMs - leftMs);
      else if (serves) open += 1;
    }
    return { open, quietMs: Math.max(0, quietMs) };
  }

  /** Of one processor, since it was asked last. */
  async #processorShare(): Promise<number> {
    const before = this.#processor;
    const seconds = await processorSeconds(this.#live.process.pid);
    const at = performance.now();
    this.#processor = { seconds, at };
    return before === undefined ? 0 : ((seconds - before.seconds) * 1000) / (at - before.at);
  }
}

async function processorSeconds(pid: number): Promise<number> {
  const stat = await readFile(`/proc/${pid}/stat`, "utf8");
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[11]) + Number(fields[12])) / ticksPerSecond;
}

interface End {
  address: string;
  port: number;
}

export interface HostConnection {
  /** This host's end. */
  from: End;
  to: End;
  /** `ended`: it was closed from here, and is only remembered. */
  state: "open" | "ended";
  /** How much longer it is remembered. */
  leftMs: number;
}

const listening = 0x0a;
const timeWait = 0x06;
const closed = 0x07;

/** TCP connections of this host over IPv4, also where a program of it has them on an IPv6 socket. */
async function hostConnections(): Promise<HostConnection[]> {
  const tables = await Promise.all(
    ["/proc/net/tcp", "/proc/net/tcp6"].map((path) => readFile(path, "utf8").catch(() => "")),
  );
  return tables.flatMap(parseConnections);
}

/** The rows of /proc/net/tcp or tcp6 (Linux, Documentation/networking/proc_net_tcp.rst). */
export function parseConnections(table: string): HostConnection[] {
  return table.split("\n").flatMap((line) => {
    const [, from, to, state, , timer] = line.trim().split(/\s+/);
    const [here, there] = [parseEnd(from), parseEnd(to)];
    const code = Number.parseInt(state ?? "", 16);
    if (here === undefined || there === undefined || code === listening || code === closed) return [];
    const left = Number.parseInt(timer?.split(":")[1] ?? "", 16);
    const leftMs = code === timeWait ? (left * 1000) / ticksPerSecond : 0;
    return [{ from: here, to: there, state: code === timeWait ? "ended" : "open", leftMs }];
  });
}

/** `0100007F:1F90`: the address as this processor has it in memory, lowest byte first. Undefined: not IPv4. */
function parseEnd(end: string | undefined): End | undefined {
  const [, hex, port] = /^(?:0{16}FFFF0000)?([0-9A-F]{8}):([0-9A-F]{4})$/.exec(end ?? "") ?? [];
  if (hex === undefined || port === undefined) return undefined;
  const address = [...Buffer.from(hex, "hex").reverse()].join(".");
  return { address, port: Number.parseInt(port, 16) };
}

function localAddresses(): Set<string> {
  const all = Object.values(networkInterfaces()).flatMap((addresses) => addresses ?? []);
  return new Set(all.map(({ address }) => address));
}

function isOfThisHost(address: string, local: ReadonlySet<string>): boolean {
  return address.startsWith("127.") || local.has(address);
}

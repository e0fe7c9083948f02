import { open, readFile } from "node:fs/promises";
import { type TcpEnd, ticksPerSecond } from "@skep/machines";

const timeWait = "06";
const closed = "07";
const listening = "0A";

export interface HostConnection {
  /** This host's end. */
  from: TcpEnd;
  to: TcpEnd;
  /** `ended`: it was closed from here, and is only remembered. */
  state: "open" | "ended";
  /** How much longer it is remembered. */
  leftMs: number;
}

/** TCP connections of this host over IPv4, also where a program of it has them on an IPv6 socket. */
export async function hostConnections(): Promise<HostConnection[]> {
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
    if (here === undefined || there === undefined || state === listening || state === closed) return [];
    const left = Number.parseInt(timer?.split(":")[1] ?? "", 16);
    const leftMs = state === timeWait ? (left * 1000) / ticksPerSecond : 0;
    return [{ from: here, to: there, state: state === timeWait ? "ended" : "open", leftMs }];
  });
}

/**
 * How many connections the kernel has for who listens there that were not accepted yet. 0 where nobody listens, or
 * that cannot be told.
 */
export async function acceptQueue(listener: TcpEnd): Promise<number> {
  return await queued(listener).catch(() => 0);
}

async function queued(listener: TcpEnd): Promise<number> {
  const row = new RegExp(` ${formatEnd(listener)} 00000000:0000 ${listening} [0-9A-F]{8}:([0-9A-F]{8}) `);
  await using file = await open("/proc/net/tcp");
  // Listeners come first, before what may be very many connections.
  for (let table = ""; ; ) {
    const { bytesRead, buffer } = await file.read();
    table += buffer.toString("latin1", 0, bytesRead);
    const [, waiting] = row.exec(table) ?? [];
    if (waiting !== undefined) return Number.parseInt(waiting, 16);
    if (bytesRead === 0) return 0;
  }
}

/** `0100007F:1F90`: the address as this processor has it in memory, lowest byte first. Undefined: not IPv4. */
function parseEnd(end: string | undefined): TcpEnd | undefined {
  const [, hex, port] = /^(?:0{16}FFFF0000)?([0-9A-F]{8}):([0-9A-F]{4})$/.exec(end ?? "") ?? [];
  if (hex === undefined || port === undefined) return undefined;
  const address = [...Buffer.from(hex, "hex").reverse()].join(".");
  return { address, port: Number.parseInt(port, 16) };
}

function formatEnd({ address, port }: TcpEnd): string {
  const hex = Buffer.from(address.split(".").map(Number)).reverse().toString("hex");
  return `${hex}:${port.toString(16).padStart(4, "0")}`.toUpperCase();
}

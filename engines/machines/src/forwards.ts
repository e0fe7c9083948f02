import type { Port } from "@skep/api/schemas";
import type { LiveMachine } from "./live.ts";
import type { Machine } from "./machine.ts";

/** Names a forward's end on this host, as QEMU's monitor wants it: `tcp:127.0.0.1:8080`. */
export function forwardName({ protocol, hostAddress, hostPort }: Port): string {
  return `${protocol}:${hostAddress}:${hostPort}`;
}

/** Forwards that a machine is to have: those whose port on this host is chosen. */
export function forwardsOf({ file }: Machine): Port[] {
  return file.ports.filter(({ hostPort }) => hostPort !== 0);
}

/** Has a running QEMU listen on a port. Undefined, or why it cannot. */
export async function openForward({ qmp }: LiveMachine, port: Port): Promise<string | undefined> {
  // The monitor prints nothing when it worked.
  const answer = (await qmp.hmp(`hostfwd_add net ${forwardName(port)}-:${port.guestPort}`)).trim();
  return answer === "" ? undefined : answer;
}

/** Has a running QEMU listen on a port no longer; connections that it has go on. */
export async function closeForward({ qmp }: LiveMachine, port: Port): Promise<void> {
  await qmp.hmp(`hostfwd_remove net ${forwardName(port)}`);
}

/** Names of the forwards that a running QEMU listens on. */
export async function openForwards({ qmp }: LiveMachine): Promise<Set<string>> {
  const table = await qmp.hmp("info usernet");
  const rows = table.matchAll(/^\s*(TCP|UDP)\[HOST_FORWARD\]\s+\d+\s+(\S+)\s+(\d+)\s/gm);
  const name = ([, protocol = "", address, port]: RegExpExecArray) =>
    `${protocol.toLowerCase()}:${address === "*" ? "0.0.0.0" : address}:${port}`;
  return new Set([...rows].map(name));
}

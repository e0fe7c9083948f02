import { randomInt } from "node:crypto";
import { createSocket } from "node:dgram";
import { createServer, isIPv4 } from "node:net";
import type { Port, PortRequest } from "@skep/api/schemas";
import { fail } from "./errors.ts";

// Below Linux's range for outgoing connections (32768..60999), so that none takes a kept port.
const firstPort = 20_000;
const lastPort = 32_767;

/** Whether a port of this host can be listened on right now. */
export async function isFree(address: string, port: number, protocol: "tcp" | "udp"): Promise<boolean> {
  return await new Promise((resolve) => {
    if (protocol === "udp") {
      const socket = createSocket(address.includes(":") ? "udp6" : "udp4");
      socket.once("error", () => resolve(false));
      socket.bind({ address, port, exclusive: true }, () => socket.close(() => resolve(true)));
    } else {
      const server = createServer();
      server.once("error", () => resolve(false));
      server.listen({ host: address, port, exclusive: true }, () => server.close(() => resolve(true)));
    }
  });
}

/** A free port that no machine of ours has; QEMU's own bind decides, and a loser tries again. */
export async function chooseFreePort(
  address: string,
  protocol: "tcp" | "udp",
  taken: (port: number) => boolean,
): Promise<number> {
  const count = lastPort - firstPort + 1;
  const start = randomInt(count); // at random, so that two homes seldom try the same
  for (let step = 0; step < count; step += 1) {
    const port = firstPort + ((start + step) % count);
    if (!taken(port) && (await isFree(address, port, protocol))) return port;
  }
  throw fail("PORT_TAKEN", { port: `${firstPort}-${lastPort}`, by: " everywhere", guest: "…" });
}

export type PortOwner = (port: number, protocol: "tcp" | "udp") => string | undefined;

/** Turns what was asked for into ports, choosing the host's where it was left open. */
export async function settlePorts(
  requests: readonly PortRequest[],
  owner: PortOwner,
  present: readonly Port[] = [],
): Promise<Port[]> {
  const ports: Port[] = [];
  const here = (number: number, protocol: string) =>
    [...present, ...ports].some((port) => port.hostPort === number && port.protocol === protocol);
  for (const request of requests) {
    const protocol = request.protocol ?? "tcp";
    const hostAddress = request.hostAddress ?? "127.0.0.1";
    // QEMU's user network forwards nothing else, and the address becomes a part of its command line.
    if (!isIPv4(hostAddress)) throw fail("PORT_ADDRESS", { address: hostAddress.slice(0, 80) });
    const automatic = request.hostPort === 0;
    let hostPort = request.hostPort;
    if (automatic) {
      hostPort = await chooseFreePort(
        hostAddress,
        protocol,
        (port) => owner(port, protocol) !== undefined || here(port, protocol),
      );
    } else {
      const other = owner(hostPort, protocol);
      if (other !== undefined) throw fail("PORT_DOUBLE", { port: hostPort, name: other });
      if (here(hostPort, protocol))
        throw fail("PORT_TAKEN", {
          port: hostPort,
          by: " by this machine already",
          guest: request.guestPort,
        });
      if (!(await isFree(hostAddress, hostPort, protocol))) {
        throw fail("PORT_TAKEN", {
          port: `${hostAddress}:${hostPort}`,
          by: " by another program",
          guest: request.guestPort,
        });
      }
    }
    ports.push({ hostAddress, hostPort, guestPort: request.guestPort, protocol, automatic });
  }
  return ports;
}

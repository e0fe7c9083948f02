import type { Port, PortRequest } from "@skep/api/schemas";
import { allFiles, type Context } from "./context.ts";
import { fail } from "./errors.ts";
import { closeForward, forwardName, openForward } from "./forwards.ts";
import { chooseFreePort, type PortOwner, settlePorts } from "./host-ports.ts";
import type { LiveMachine } from "./live.ts";
import type { Machine } from "./machine.ts";

/** How often a port that skep chooses is chosen anew, where another program was faster. */
const attempts = 3;

/** Which other machine publishes a port of this host. */
export function portOwner(context: Context, except?: Machine): PortOwner {
  return (number, protocol) => {
    for (const file of allFiles(context)) {
      if (file === except?.file) continue;
      const { ports, telnetPort, name } = file;
      if (protocol === "tcp" && telnetPort === number) return name;
      if (ports.some((port) => port.hostPort === number && port.protocol === protocol)) return name;
    }
    return undefined;
  };
}

/** Publishes one more port, at once where the machine runs. */
export async function addPort(machine: Machine, request: PortRequest): Promise<Port[]> {
  const { file, context, live } = machine;
  const { port, claim } = await context.locks.run("new", async () => {
    const [port] = await settlePorts([request], portOwner(context, machine), file.ports);
    // Nobody else is given it meanwhile.
    const claim = { ...file, ports: [...file.ports, ...(port === undefined ? [] : [port])] };
    context.pending.add(claim);
    return { port, claim };
  });
  try {
    if (port === undefined) return file.ports;
    const why = live === undefined ? undefined : await openForward(live, port);
    if (why !== undefined)
      throw fail("PORT_TAKEN", { port: port.hostPort, by: ` (${why})`, guest: port.guestPort });
    await machine.save({ ports: claim.ports });
    return machine.file.ports;
  } finally {
    context.pending.delete(claim);
  }
}

export async function removePort(
  machine: Machine,
  { hostPort, protocol = "tcp" }: { hostPort: number; protocol?: "tcp" | "udp" },
): Promise<Port[]> {
  const port = machine.file.ports.find((each) => each.hostPort === hostPort && each.protocol === protocol);
  if (port === undefined) throw fail("PORT_NOT_FOUND", { name: machine.name, port: hostPort });
  const { check } = machine.file;
  if (check?.port === port.guestPort && protocol === "tcp") {
    const why = `its check asks port ${port.guestPort}`;
    const hint = `take the check away first: skep edit ${machine.name} --no-check`;
    throw fail("MACHINE_INVALID", { name: machine.name, why, hint });
  }
  if (machine.live !== undefined) await closeForward(machine.live, port);
  await machine.save({ ports: machine.file.ports.filter((each) => each !== port) });
  return machine.file.ports;
}

/**
 * As `openForward`; where another program has taken a port that skep had chosen, another one is chosen and
 * recorded. Gives the port that is open.
 */
export async function openForwardSomewhere(
  live: LiveMachine,
  port: Port,
): Promise<{ open: Port } | { why: string }> {
  const { machine } = live;
  const owner = portOwner(machine.context, machine);
  let wanted = port;
  for (let attempt = 1; ; attempt += 1) {
    const why = await openForward(live, wanted);
    if (why === undefined) break;
    if (!port.automatic || attempt === attempts) return { why };
    const isTaken = (number: number) => owner(number, port.protocol) !== undefined;
    const hostPort = await chooseFreePort(port.hostAddress, port.protocol, isTaken);
    wanted = { ...port, hostPort };
  }
  if (wanted !== port) {
    const name = forwardName(port);
    const ports = machine.file.ports.map((one) => (forwardName(one) === name ? wanted : one));
    await machine.save({ ports });
  }
  return { open: wanted };
}

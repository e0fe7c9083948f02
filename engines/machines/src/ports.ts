import type { Port, PortRequest } from "@skep/api/schemas";
import type { Context } from "./context.ts";
import { fail } from "./errors.ts";
import { type PortOwner, settlePorts } from "./host-ports.ts";
import type { Machine } from "./machine.ts";

/** Which other machine publishes a port of this host. */
export function portOwner(context: Context, except?: Machine): PortOwner {
  return (number, protocol) => {
    const files = [...context.machines.values()].map((machine) => machine.file);
    for (const file of [...files, ...context.pending]) {
      if (file === except?.file) continue;
      const { ports, telnetPort, name } = file;
      if (protocol === "tcp" && telnetPort === number) return name;
      if (ports.some((port) => port.hostPort === number && port.protocol === protocol)) return name;
    }
    return undefined;
  };
}

const rule = (port: Port) => `${port.protocol}:${port.hostAddress}:${port.hostPort}`;

/** Publishes one more port, at once where the machine runs. */
export async function addPort(machine: Machine, request: PortRequest): Promise<Port[]> {
  const { file, context, live } = machine;
  const [port] = await settlePorts([request], portOwner(context, machine), file.ports);
  if (port === undefined) return file.ports;
  if (live !== undefined) {
    // The monitor prints nothing when it worked.
    const answer = await live.qmp.hmp(`hostfwd_add net ${rule(port)}-:${port.guestPort}`);
    if (answer.trim() !== "") {
      throw fail("PORT_TAKEN", { port: port.hostPort, by: ` (${answer.trim()})`, guest: port.guestPort });
    }
  }
  await machine.save({ ports: [...file.ports, port] });
  return machine.file.ports;
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
  await machine.live?.qmp.hmp(`hostfwd_remove net ${rule(port)}`);
  await machine.save({ ports: machine.file.ports.filter((each) => each !== port) });
  return machine.file.ports;
}

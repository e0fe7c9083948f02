import type { Machine, SuspendResult, Suspension } from "@skep/api";
import { formatAge, formatSize } from "@skep/base";
import { dueText } from "./liveness.ts";
import { formatPort } from "./ports.ts";
import { type Paint, printable, type Style } from "./style.ts";

const mebibyte = 1024 ** 2;

/** `stopped (guest panicked)`: the state, and why where that was nobody's wish. */
export function stateText(machine: Machine): string {
  const due = machine.state === "stopped" ? (machine.restarts?.dueAt ?? null) : null;
  const why = [
    machine.reason,
    machine.state === "running" && machine.liveness?.state === "failing" ? "its check fails" : null,
    due === null ? null : dueText(due),
  ].filter((text) => text !== null);
  return why.length === 0 ? machine.state : `${machine.state} (${printable(why.join(", "))})`;
}

export function stateColour(machine: Machine, style: Style): Paint | undefined {
  if (machine.state === "running") {
    return machine.reason === null && machine.liveness?.state !== "failing" ? style.green : style.yellow;
  }
  if (machine.state === "damaged") return style.red;
  if (machine.state === "suspended") return style.dim;
  if (machine.state === "stopped") return machine.reason === null ? style.dim : style.red;
  return style.yellow;
}

export function imageText(machine: Machine): string {
  return (
    machine.image ??
    machine.imageDigest?.slice(0, 19) ??
    (machine.from === null ? "-" : `from ${machine.from}`)
  );
}

/** The ports people asked for; ssh's own forward is shown where it matters. */
export function portsText(machine: Machine): string {
  return machine.ports.map(formatPort).join(", ") || "-";
}

/** `vol-0123456789abcdef0 (root), vol-… (read only)`. */
export function volumesText({ volumes }: Machine): string {
  const text = volumes.map(({ id, role, readOnly, detaching }) => {
    const marks = [
      role === "data" ? "" : role,
      readOnly ? "read only" : "",
      detaching ? "being detached" : "",
    ].filter((mark) => mark !== "");
    return marks.length === 0 ? id : `${id} (${marks.join(", ")})`;
  });
  return text.join(", ");
}

export function ageText(since: string | null, now = Date.now()): string {
  return since === null ? "-" : formatAge(now - Date.parse(since));
}

export function memoryText(memoryMiB: number): string {
  return formatSize(memoryMiB * mebibyte);
}

/** `debian-12, 2 cpus, 2 GiB, tcg`. */
export function shapeText(machine: Machine): string {
  const parts = [
    imageText(machine),
    `${machine.cpus} cpu${machine.cpus === 1 ? "" : "s"}`,
    memoryText(machine.memoryMiB),
    machine.accelerator,
  ];
  return parts.filter((part) => part !== null && part !== "-").join(", ");
}

/** `239 MiB of memory, 69.9 MiB stored, paused 1.2 s`. */
export function suspensionText({ populatedMiB, storedBytes, pauseMs }: Suspension): string {
  const memory = `${memoryText(populatedMiB)} of memory`;
  return `${memory}, ${formatSize(storedBytes)} stored, paused ${secondsText(pauseMs)}`;
}

/** What a suspend has done. */
export function suspendedText({ machine: { name, suspended } }: SuspendResult): string {
  return suspended === null ? `${name} is suspended` : `${name} is suspended: ${suspensionText(suspended)}`;
}

/** `180 ms`, `1.2 s`. */
export function secondsText(milliseconds: number): string {
  return milliseconds < 1000 ? `${Math.round(milliseconds)} ms` : `${(milliseconds / 1000).toFixed(1)} s`;
}

/** What to tell after a machine was made or started: its state, and how to get in. */
export function waysIn(machine: Machine, style: Style): string {
  const colour = stateColour(machine, style) ?? ((text: string) => text);
  const first = `${style.bold(machine.name)} is ${colour(stateText(machine))} ${style.dim(`(${shapeText(machine)})`)}`;
  if (machine.state === "suspended") return `${first}\n  skep resume ${machine.name}\n`;
  if (machine.state !== "running") return `${first}\n  skep start ${machine.name}\n`;
  const lines = [first];
  if (machine.ssh === null)
    lines.push(`  skep console ${machine.name}`, `  skep exec ${machine.name} -- uname -a`);
  else
    lines.push(
      `  skep shell ${machine.name}`,
      `  ssh -p ${machine.ssh.port} ${machine.ssh.user}@${machine.ssh.host}`,
    );
  if (machine.telnetPort !== null) lines.push(`  telnet 127.0.0.1 ${machine.telnetPort}`);
  for (const port of machine.ports) {
    if (port.guestPort === 22 && port.hostPort === machine.ssh?.port) continue;
    lines.push(
      `  ${printable(port.hostAddress)}:${port.hostPort} → ${port.guestPort}${port.protocol === "udp" ? "/udp" : ""}`,
    );
  }
  return `${lines.join("\n")}\n`;
}

import { get } from "node:http";
import { connect, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import type { LivenessCheck } from "@skep/api/schemas";
import { isErrno } from "@skep/base";
import { guestRun } from "./guest-run.ts";
import type { LiveMachine } from "./live.ts";

const pollMs = 50;
const maxHeaderBytes = 16 * 1024;
const maxWhyLength = 300;
const refusedText = "the connection was refused";

/** Undefined where the guest does what its check asks for, else why not; rejects only with the signal's reason. */
export async function probe(
  live: LiveMachine,
  check: LivenessCheck,
  signal: AbortSignal,
): Promise<string | undefined> {
  const timeoutMs = check.timeoutSeconds * 1000;
  const timeout = AbortSignal.timeout(timeoutMs);
  const either = AbortSignal.any([signal, timeout]);
  try {
    // A command has its time in the guest, where it is ended, and what it said is fetched afterwards.
    if (check.kind === "command") return await command(live, check.command ?? "", timeoutMs, signal);
    if (check.kind === "tcp") await accepted(live, hostSide(live, check), either);
    else if (check.kind === "http") await answered(live, check.path ?? "/", hostSide(live, check), either);
    else await live.agent.ping({ signal: either, timeoutMs });
    return undefined;
  } catch (error) {
    signal.throwIfAborted();
    if (timeout.aborted) return `no answer within ${check.timeoutSeconds} s`;
    return short((error as Error).message);
  }
}

function short(why: string): string {
  const line = why.trim().split("\n")[0] ?? "";
  return line.length > maxWhyLength ? `${line.slice(0, maxWhyLength)}…` : line;
}

/** Where the guest's port is forwarded from, which may have changed since the last time. */
function hostSide(
  { machine }: LiveMachine,
  { port: guestPort }: LivenessCheck,
): { host: string; port: number } {
  const port = machine.file.ports.find((one) => one.guestPort === guestPort && one.protocol === "tcp");
  if (port === undefined) throw new Error(`port ${guestPort} is not forwarded`);
  const host = port.hostAddress === "0.0.0.0" ? "127.0.0.1" : port.hostAddress;
  return { host, port: port.hostPort };
}

/**
 * QEMU's network accepts whatever the guest does, and only then asks the guest. What it has of that is in its
 * own table: a connection there is `ESTABLISHED` once the guest has answered.
 */
async function accepted(
  live: LiveMachine,
  to: { host: string; port: number },
  signal: AbortSignal,
): Promise<void> {
  const over = new AbortController();
  const socket = connect({ ...to, signal: AbortSignal.any([signal, over.signal]) });
  live.machine.uses.ownConnection(socket, to);
  const closed = refusal(socket);
  closed.catch(() => undefined);
  const watch = async () => {
    // QEMU may not have noticed a connection when it answers first.
    for (let seen = 0; seen < 2; ) {
      const table = await live.qmp.hmp("info usernet", { signal });
      seen = isEstablished(table, to.port) ? seen + 1 : 0;
      if (seen < 2) await sleep(pollMs, undefined, { signal });
    }
  };
  try {
    await Promise.race([watch(), closed]);
  } finally {
    over.abort();
    socket.destroy();
  }
}

function refusal(socket: Socket): Promise<never> {
  socket.resume();
  return new Promise((_, reject) => {
    socket.once("error", (error) => reject(refused(error)));
    socket.once("close", () => reject(new Error(refusedText)));
  });
}

/** QEMU closes what the guest has not taken. */
function refused(error: Error): Error {
  return isErrno(error, "ECONNRESET") ? new Error(refusedText) : error;
}

/** Whether the guest has answered every connection to a forwarded port, and there is one. */
export function isEstablished(table: string, hostPort: number): boolean {
  const rows = table.matchAll(/^\s*TCP\[(\w+)\]\s+\d+\s+\S+\s+(\d+)\s/gm);
  const states = [...rows].flatMap(([, state, port]) => (Number(port) === hostPort ? [state] : []));
  return states.includes("ESTABLISHED") && !states.includes("SYN_SENT");
}

/** Only the head of the answer is read. */
async function answered(
  { machine }: LiveMachine,
  path: string,
  to: { host: string; port: number },
  signal: AbortSignal,
): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    const request = get({ ...to, path, agent: false, signal, maxHeaderSize: maxHeaderBytes }, (response) => {
      const status = response.statusCode ?? 0;
      response.destroy();
      if (status >= 200 && status < 400) resolve();
      else reject(new Error(`HTTP status ${status}`));
    });
    request.once("socket", (socket) => machine.uses.ownConnection(socket, to));
    request.on("error", (error) => reject(refused(error)));
  });
}

async function command(
  { agent }: LiveMachine,
  line: string,
  timeoutMs: number,
  signal: AbortSignal,
): Promise<string | undefined> {
  const { status, output } = await guestRun(agent, ["/bin/sh", "-c", line], { timeoutMs, signal });
  if (status === 0) return undefined;
  const how =
    status === null ? `it did not end within ${timeoutMs / 1000} s` : `it ended with status ${status}`;
  return short(output === "" ? how : `${how}: ${output}`);
}

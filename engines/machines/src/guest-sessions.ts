import type { Duplex } from "node:stream";
import { quietWork } from "@skep/base";
import { openExec } from "./exec.ts";
import type { Machine } from "./machine.ts";
import { waitReady } from "./ready.ts";
import type { ExecRequest, ExecSession } from "./types.ts";

/** Runs a command in a guest, which is in use until it has ended; one that boots is waited for. */
export async function execInGuest(
  machine: Machine,
  request: ExecRequest,
  signal: AbortSignal | undefined,
): Promise<ExecSession> {
  machine.running();
  const endUse = machine.uses.begin();
  try {
    await waitReady(machine, {}, quietWork(signal));
    const session = await openExec(machine, request, signal);
    session.exit.then(endUse, endUse);
    return session;
  } catch (error) {
    endUse();
    throw error;
  }
}

/** Connects to a port of a guest as it sees it, which is in use until that is closed. */
export async function tunnelToGuest(machine: Machine, guestPort: number): Promise<Duplex> {
  machine.running();
  const endUse = machine.uses.begin();
  try {
    const tunnel = await machine.context.ssh.forward(machine, guestPort);
    return tunnel.once("close", endUse);
  } catch (error) {
    endUse();
    throw error;
  }
}

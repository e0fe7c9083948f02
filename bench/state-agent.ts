/** When a guest's agent answers, seen at its socket: the same for all sides. */
import { readFile } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { connectUnix } from "@skep/qmp";

/**
 * Settles with `performance.now()` when the agent behind a socket, which need not be there yet, has answered. Asked
 * before the guest goes on, it answers as soon as it does.
 */
export async function agentAnswers(path: string, signal: AbortSignal): Promise<number> {
  const id = Math.floor(Math.random() * 1e9);
  for (; ; await sleep(2, undefined, { signal })) {
    signal.throwIfAborted();
    const socket = await connectUnix(path, 1000, signal).catch(() => undefined);
    if (socket === undefined) continue;
    socket.on("error", () => {});
    const end = () => socket.destroy();
    signal.addEventListener("abort", end, { once: true });
    // The byte before it ends what an earlier client has left half said.
    socket.write(`\xff${JSON.stringify({ execute: "guest-sync", arguments: { id } })}\n`, "latin1");
    let said = "";
    try {
      for await (const part of socket) {
        said += (part as Buffer).toString("latin1");
        if (said.includes(`"return": ${id}`)) return performance.now();
      }
    } catch {
      // QEMU has closed it: the next one
    } finally {
      signal.removeEventListener("abort", end);
      end();
    }
  }
}

/** Proportional set size of a process, in MiB: what it shares counts in parts. */
export async function pssMiB(pid: number): Promise<number> {
  const rollup = await readFile(`/proc/${pid}/smaps_rollup`, "utf8");
  return Number(/^Pss:\s+(\d+)/m.exec(rollup)?.[1]) / 1024;
}

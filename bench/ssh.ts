/** When a guest lets somebody in, by the plain ssh client. */

import { connect } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { timed } from "./measure.ts";

const limitMs = 600_000;

export interface Login {
  host: string;
  port: number;
  /** To ssh, before the command; with what it needs to get in. */
  words: readonly string[];
}

/**
 * When (by performance.now) a command over ssh has run, tried as soon as the server greets. `isUp`: it is there, and
 * the first connection is that of the client, which has to do.
 */
export async function sshAnswers(
  { host, port, words }: Login,
  { isUp = false }: { isUp?: boolean } = {},
): Promise<number> {
  for (const until = performance.now() + limitMs; performance.now() < until; await sleep(20)) {
    if (!isUp && !(await greets(host, port))) continue;
    try {
      await timed(["ssh", ...words, "true"], process.env);
      return performance.now();
    } catch (error) {
      if (isUp) throw error;
      // It greets before it lets anybody in.
    }
  }
  throw new Error(`no ssh on port ${port} after ${limitMs / 1000} s`);
}

/** Whether a server of ssh is there: QEMU itself takes connections before the guest does. */
function greets(host: string, port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, host);
    const finish = (answer: boolean) => {
      socket.destroy();
      resolve(answer);
    };
    socket.setTimeout(5000, () => finish(false));
    socket.once("error", () => finish(false));
    socket.once("close", () => finish(false));
    socket.once("data", (data) => finish(data.toString("latin1").startsWith("SSH-")));
  });
}

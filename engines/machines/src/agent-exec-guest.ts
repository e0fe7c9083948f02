import { Writable } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import type { GuestAgent } from "@skep/qmp";
import { exports, loginShell, quote } from "./exec-quote.ts";
import type { ExecRequest } from "./types.ts";

/** Where the directories of running commands may be, best first: both are emptied when a guest boots. */
export const workDirectories = ["/run", "/tmp"];

const inputPieceBytes = 128 * 1024;
const pollMs = 30;

/**
 * What the guest's /bin/sh (busybox is enough) runs: makes the files, and becomes the command at the
 * head of a session of its own, so that its process id is that of its group. Opening `in` waits until
 * the agent holds it; `out` is there only afterwards.
 */
export function startScript(id: string, request: ExecRequest): string {
  const user = request.user === "root" ? undefined : request.user;
  const path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
  const words = request.command.map(quote).join(" ");
  const become = request.command.length === 0 ? loginShell : `exec ${words}`;
  const line = `${exports(request.env)}${become}`;
  const asUser = user === undefined ? line : `exec su -s /bin/sh -c ${quote(line)} ${quote(user)}`;
  return [
    "umask 077",
    `d=`,
    `for p in ${workDirectories.join(" ")}; do mkdir $p/skep-exec-${id} 2>/dev/null && { d=$p/skep-exec-${id}; break; }; done`,
    `[ -n "$d" ] && mkfifo "$d/in" || exit 1`,
    `[ -n "$PATH" ] || PATH=${path}; export PATH`,
    `[ -n "$HOME" ] || HOME=/root; export HOME`,
    `cd "$HOME" 2>/dev/null || cd /`,
    `exec setsid /bin/sh -c ${quote(`exec <"$1/in" 2>"$1/err" >"$1/out"; shift; umask 022; ${asUser}`)} sh "$d"`,
  ].join("\n");
}

interface Target {
  pid: number;
  directory: string;
  /** The agent's handle on the command's input; closing it is the end of the input. */
  stdin: number;
}

/** The command's input: each piece is poured into its pipe by a `cat`, which waits for the command. */
export function agentStdin(agent: GuestAgent, { directory, stdin: handle }: Target): Writable {
  let closed = false;
  const untilOpened = async () => {
    // Before the command has opened its end, closing ours would let it wait forever.
    while (!closed) {
      try {
        await agent.fileClose(await agent.fileOpen(`${directory}/out`, "r"));
        return;
      } catch {
        await sleep(pollMs);
      }
    }
  };
  const pour = async (piece: Uint8Array) => {
    const pid = await agent.exec({
      path: "/bin/sh",
      args: ["-c", `exec cat >>${directory}/in`],
      input: piece,
    });
    while (!closed && !(await agent.execStatus(pid)).exited) await sleep(pollMs);
  };
  const stream = new Writable({
    highWaterMark: inputPieceBytes,
    writev(chunks, done) {
      const bytes = Buffer.concat(chunks.map(({ chunk }) => chunk as Buffer));
      (async () => {
        await untilOpened();
        for (let at = 0; at < bytes.length && !closed; at += inputPieceBytes) {
          await pour(bytes.subarray(at, at + inputPieceBytes));
        }
      })().then(() => done(), done);
    },
    final(done) {
      (async () => {
        await untilOpened();
        if (!closed) await agent.fileClose(handle);
      })().then(() => done(), done);
    },
    destroy(error, done) {
      closed = true;
      done(error);
    },
  });
  stream.on("error", () => {}); // the command has ended without reading, or the guest: `exit` tells
  return stream;
}

import { setTimeout as sleep } from "node:timers/promises";
import type { AgentExecStatus, GuestAgent } from "@skep/qmp";
import { endGroupScript } from "./exec-quote.ts";

/** What a program in the guest did within its time. */
export interface GuestRun {
  /** 0..255; null where it was ended because its time was over. */
  status: number | null;
  /** The beginning of what it printed, on either stream. */
  output: string;
}

type Ended = Extract<AgentExecStatus, { exited: true }>;

/** So many pieces of a pipe's 4096 bytes are kept; the rest is read and thrown away. */
const keptPieces = 64;
const keptBytes = 8192;
const pollMs = { shortest: 20, longest: 250 };
/** For the agent's own answers, and for what was ended to be gone. */
const graceMs = 10_000;
const endPatienceSeconds = 2;

/** How much longer than its time a program may live where we do not come to end it. */
const guardSeconds = 30;

/**
 * In a session of its own, so that its process id is that of its group. What it prints goes through a reader
 * that never lets it wait; its status comes on the stream that nothing else has. A guard, in another session,
 * ends the group where nobody else does; it looks first whether the group is still the one it was.
 */
const script = `exec setsid /bin/sh -c '
limit=$1; shift
[ -n "$PATH" ] || PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
[ -n "$HOME" ] || HOME=/root
export PATH HOME; cd /
setsid /bin/sh -c "sleep $limit; read -r p n s parent r </proc/\\$\\$/stat; [ \\$parent = $$ ] && kill -KILL -$$" \\
  </dev/null >/dev/null 2>&1 &
guard=$!
{ ( exec "$@" ) </dev/null 2>&1 3>&-; echo $? >&3; } 3>&2 |
{ dd bs=4096 count=${keptPieces} 2>/dev/null; exec cat >/dev/null; } 2>/dev/null
kill -KILL -$guard 2>/dev/null
' sh "$@"`;

/**
 * Runs a program in a guest as root, by its agent, and waits until it has ended and closed its output. It is
 * ended, with all that it started, when its time is over or the signal comes. Fails as the agent does.
 */
export async function guestRun(
  agent: GuestAgent,
  command: readonly string[],
  options: {
    timeoutMs: number;
    signal: AbortSignal;
    /** For the agent to start it, which is not the program's time; default: `timeoutMs`, at most 10 s. */
    startMs?: number;
  },
): Promise<GuestRun> {
  const { timeoutMs, signal, startMs = Math.min(graceMs, timeoutMs) } = options;
  const limit = `${Math.ceil(timeoutMs / 1000) + guardSeconds}`;
  const start = { path: "/bin/sh", args: ["-c", script, "sh", limit, ...command], capture: true };
  const pid = await agent.exec(start, { signal, timeoutMs: startMs });
  const until = performance.now() + timeoutMs;
  const ended = await untilEnded(agent, pid, until, signal).catch(async (error: unknown) => {
    await end(agent, pid);
    throw error;
  });
  if (ended !== undefined) return result(ended);
  await end(agent, pid);
  const late = await untilEnded(agent, pid, performance.now() + graceMs, signal).catch(() => undefined);
  return { ...(late === undefined ? { output: "" } : result(late)), status: null };
}

async function untilEnded(
  agent: GuestAgent,
  pid: number,
  until: number,
  signal: AbortSignal,
): Promise<Ended | undefined> {
  for (let waitMs = pollMs.shortest; ; waitMs = Math.min(pollMs.longest, waitMs * 1.5)) {
    const status = await agent.execStatus(pid, { signal, timeoutMs: graceMs });
    if (status.exited) return status;
    const leftMs = until - performance.now();
    if (leftMs <= 0) return undefined;
    await sleep(Math.min(waitMs, leftMs), undefined, { signal });
  }
}

/** A guest that does not hear it any more will not run it any further, either. */
async function end(agent: GuestAgent, pid: number): Promise<void> {
  const args = ["-c", endGroupScript(pid, endPatienceSeconds)];
  await agent.exec({ path: "/bin/sh", args }, { timeoutMs: graceMs }).catch(() => undefined);
}

function result({ stdout, stderr }: Ended): GuestRun {
  const said = /(?:^|\n)(\d{1,3})\n$/.exec(stderr.toString("latin1").slice(-8));
  // Without a word of it the shell itself was ended.
  const status = said === null ? 255 : Math.min(255, Number(said[1]));
  return { status, output: stdout.subarray(0, keptBytes).toString("utf8").trimEnd() };
}

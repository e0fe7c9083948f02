import { setTimeout as sleep } from "node:timers/promises";
import type { StartRequest } from "@skep/api/schemas";
import { SkepError, type Work } from "@skep/base";
import { fail } from "./errors.ts";
import type { LiveMachine } from "./live.ts";
import { probe } from "./liveness-probe.ts";
import type { Machine } from "./machine.ts";

/** A native guest answers within half a minute; an emulated one may take several. */
const defaultSeconds = { native: 180, tcg: 600 };
/** Beyond 2³¹ ms a timer fires at once. */
const longestTimerMs = 2 ** 31 - 1;
/** With the agent there and ssh not, ssh is on its way or switched off. */
const sshAfterAgentMs = 60_000;
/** Between two checks of a guest that is waited for. */
const checkPauseMs = 500;

/**
 * Waits until the guest answers: an ssh handshake, or the agent where there is no ssh server. A
 * port that accepts means nothing, for QEMU's network accepts before the guest runs. A kernel that
 * panicked and stays so is not waited for.
 */
export async function waitReady(machine: Machine, request: StartRequest, work: Work): Promise<void> {
  const live = machine.running();
  if (machine.ready) return;
  machine.setReady(await waitFor(machine, request, work, (signal) => answer(machine, live, signal)));
}

/** Waits until the machine's check succeeds, or, where it has none, until the guest answers. */
export async function waitUp(machine: Machine, request: StartRequest, work: Work): Promise<void> {
  const { check } = machine.file;
  if (check === null) return await waitReady(machine, request, work);
  const live = machine.running();
  let why: string | undefined;
  const passes = async (signal: AbortSignal) => {
    for (;;) {
      why = await probe(live, check, signal);
      if (why === undefined) return;
      await sleep(checkPauseMs, undefined, { signal });
    }
  };
  try {
    await waitFor(machine, request, work, passes);
  } catch (error) {
    if (!(error instanceof SkepError) || error.code !== "NOT_READY" || why === undefined) throw error;
    throw fail(
      "CHECK_FAILING",
      { name: machine.name, seconds: limitOf(machine, request), why },
      { cause: error },
    );
  }
}

function limitOf(machine: Machine, request: StartRequest): number {
  const emulated = machine.run?.accelerator === "tcg";
  return request.waitSeconds ?? (emulated ? defaultSeconds.tcg : defaultSeconds.native);
}

async function waitFor<T>(
  machine: Machine,
  request: StartRequest,
  work: Work,
  come: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const live = machine.running();
  const seconds = limitOf(machine, request);
  work.report({ phase: `waiting for ${machine.name} to answer` });
  const timeout = AbortSignal.timeout(Math.min(Math.ceil(seconds * 1000), longestTimerMs));
  const over = new AbortController();
  const signal = AbortSignal.any([work.signal, timeout, over.signal]);
  const ended = live.gone.then(() => {
    throw fail("QEMU_GONE", { name: machine.name, reason: machine.reason ?? "it was stopped" });
  });
  ended.catch(() => undefined);
  const endUse = machine.uses.begin();
  try {
    return await Promise.race([come(signal), ended, panic(machine, signal)]);
  } catch (error) {
    work.signal.throwIfAborted();
    if (timeout.aborted) {
      throw fail(
        "NOT_READY",
        { name: machine.name, seconds, console: await consoleEnd(machine) },
        { cause: error },
      );
    }
    throw error;
  } finally {
    endUse();
    over.abort();
  }
}

async function answer(machine: Machine, live: LiveMachine, signal: AbortSignal): Promise<"ssh" | "agent"> {
  const agent = agentAnswers(live, signal);
  if (!machine.file.ssh) {
    await agent;
    return "agent";
  }
  agent.catch(() => undefined);
  const giveUp = new AbortController();
  let timer: NodeJS.Timeout | undefined;
  const ssh = machine.context.ssh
    .waitForHandshake(machine, AbortSignal.any([signal, giveUp.signal]))
    .then(() => "ssh" as const);
  const late = agent.then(
    () =>
      new Promise<"agent">((resolve) => {
        timer = setTimeout(() => resolve("agent"), sshAfterAgentMs);
      }),
  );
  late.catch(() => undefined);
  try {
    return await Promise.race([ssh, late.catch(() => ssh)]);
  } finally {
    clearTimeout(timer);
    giveUp.abort();
    ssh.catch(() => undefined);
  }
}

async function agentAnswers(live: LiveMachine, signal: AbortSignal): Promise<void> {
  for (;;) {
    signal.throwIfAborted();
    try {
      await live.agent.ping({ timeoutMs: 10_000, signal });
      return;
    } catch (error) {
      if (signal.aborted || !live.alive) throw error;
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
  }
}

/** What a kernel prints last when it neither restarts nor tells QEMU, as before its pvpanic module is loaded. */
const panicEnd = /---\[ end Kernel panic - not syncing[^\n]*\s*$/;

/** Throws KERNEL_PANIC once the console shows that the kernel has stopped for good; else never ends. */
async function panic(machine: Machine, signal: AbortSignal): Promise<never> {
  // The console's times are kept to the second; what an earlier run printed last must not count.
  const sinceMs = Date.parse(machine.run?.startedAt ?? "") + 1000;
  let tail = "";
  for await (const piece of machine.consoleLog.follow({ sinceMs, signal })) {
    tail = (tail + piece.toString("latin1")).slice(-4096);
    if (panicEnd.test(tail)) {
      throw fail("KERNEL_PANIC", { name: machine.name, console: await consoleEnd(machine) });
    }
  }
  return await new Promise<never>(() => {}); // the signal: somebody else has the answer
}

async function consoleEnd(machine: Machine): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of machine.consoleLog.read({ tailLines: 20 })) chunks.push(Buffer.from(chunk));
  return Buffer.concat(chunks)
    .toString("utf8")
    .replace(/\r/g, "")
    .replace(/\x1b\[[0-9;?]*[A-Za-z]/g, "");
}

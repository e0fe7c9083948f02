import { rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { exists, SkepError, type Work } from "@skep/base";
import { type GuestRun, guestRun, type LiveMachine, type Machine } from "@skep/machines";
import { fail } from "./errors.ts";

/** What a request may say of hooks. */
export interface HookRequest {
  /** False: none are run. */
  hooks?: boolean;
  /** For each; default 30. */
  hookSeconds?: number;
}

/** Says that hooks of a guest have begun, and that those for after a resume are owed to it. It goes with the host's boot. */
function announcement({ runtime }: Machine): string {
  return join(runtime.directory, "hooks-begun");
}

const directories = { before: "/etc/skep/before-suspend.d", after: "/etc/skep/after-resume.d" };
const defaultSeconds = 30;
/** To learn which there are, and to start one; a guest that has just been resumed may be busy. */
const askTimeoutMs = 30_000;
/** More names than these are no list of hooks. */
const maxListBytes = 8000;

/** Prints the names of the executables in a directory, in the order of their bytes; odd names are left out. */
const listScript = `LC_ALL=C; export LC_ALL; cd "$1" || exit 0
for f in *; do
  case $f in *[!A-Za-z0-9_.-]*) continue ;; esac
  [ -f "$f" ] && [ -x "$f" ] && echo "$f"
done; exit 0`;

/**
 * Suspends a machine, within its turn, after its guest's own programs for that have been run: each has to succeed.
 * Where they have begun and the guest then goes on, those for after a resume are run. HOOK_FAILED, HOOKS_UNASKED,
 * or as `suspend` fails.
 */
export async function withSuspendHooks(
  machine: Machine,
  request: HookRequest,
  work: Work,
  suspend: () => Promise<void>,
): Promise<void> {
  const live = machine.running();
  if (request.hooks === false || !(await hasAgent(live))) return await suspend();
  const hooks = await list(live, directories.before, work.signal).catch((error: unknown) => {
    work.signal.throwIfAborted();
    if (isRefusal(error)) {
      work.note(`the agent of ${machine.name} runs no programs, so that no hooks were looked for`);
      return [];
    }
    throw unasked(machine, error);
  });
  try {
    if (hooks.length > 0) await writeFile(announcement(machine), "");
    for (const hook of hooks) {
      const ran = await runHook(live, hook, request, work).catch((error: unknown) => {
        work.signal.throwIfAborted();
        throw unasked(machine, error);
      });
      if (ran.status !== 0) throw fail("HOOK_FAILED", { machine: machine.name, hook, ...said(ran, request) });
    }
    await suspend();
  } catch (error) {
    const goesOn = hooks.length > 0 && machine.live === live && machine.state === "running";
    if (goesOn) await runAfterResume(machine, request, { ...work, signal: new AbortController().signal });
    throw error;
  }
}

function unasked({ name }: Machine, error: unknown): SkepError {
  return fail("HOOKS_UNASKED", { machine: name, why: (error as Error).message }, { cause: error });
}

/** Runs the guest's programs for after a resume, all of them. What goes wrong is noted: the guest runs. */
export async function runAfterResume(machine: Machine, request: HookRequest, work: Work): Promise<void> {
  const { live, name } = machine;
  if (request.hooks === false || live === undefined) return;
  try {
    await writeFile(announcement(machine), "");
    for (const hook of await list(live, directories.after, work.signal)) {
      const ran = await runHook(live, hook, request, work);
      const { how, output } = said(ran, request);
      if (ran.status !== 0)
        work.note(`the hook ${hook} of ${name} ${how}${output.replace(":\n", ": ").replaceAll("\n", "; ")}`);
    }
  } catch (error) {
    if (work.signal.aborted || isRefusal(error)) return;
    work.note(`hooks of ${name} for after a resume were not run: ${(error as Error).message}`);
  } finally {
    await rm(announcement(machine), { force: true });
  }
}

/** Whether a process that was killed owes a guest that runs its hooks. */
export async function owesHooks(machine: Machine): Promise<boolean> {
  return machine.live !== undefined && (await exists(announcement(machine)));
}

async function hasAgent({ qmp }: LiveMachine): Promise<boolean> {
  const chardevs = await qmp.execute("query-chardev");
  return chardevs.some(({ label, "frontend-open": open }) => label === "agent" && open);
}

/** The agent is there, and does not do such things: it is told not to, or file systems are frozen. */
function isRefusal(error: unknown): boolean {
  return error instanceof SkepError && error.code === "AGENT_ERROR";
}

/** Full paths. Where there is no such directory, no program has to be started to learn that. */
async function list({ agent }: LiveMachine, directory: string, signal: AbortSignal): Promise<string[]> {
  const limits = { signal, timeoutMs: askTimeoutMs };
  try {
    await agent.fileClose(await agent.fileOpen(directory, "r", limits), limits);
  } catch (error) {
    if (isRefusal(error) && /No such file/.test((error as Error).message)) return [];
    throw error;
  }
  const { status, output } = await guestRun(agent, ["/bin/sh", "-c", listScript, "sh", directory], limits);
  if (status === null) throw new Error(`${directory} was not listed within ${askTimeoutMs / 1000} s`);
  if (status !== 0) throw new Error(`${directory} could not be read`);
  if (output.length > maxListBytes) throw new Error(`${directory} holds too many files`);
  return output
    .split("\n")
    .flatMap((file) => (/^[A-Za-z0-9_.-]+$/.test(file) ? [`${directory}/${file}`] : []));
}

async function runHook(
  live: LiveMachine,
  hook: string,
  { hookSeconds = defaultSeconds }: HookRequest,
  work: Work,
): Promise<GuestRun> {
  work.report({ phase: `running ${hook} in ${live.machine.name}` });
  const limits = { timeoutMs: hookSeconds * 1000, startMs: askTimeoutMs, signal: work.signal };
  return await guestRun(live.agent, [hook], limits);
}

/** For people; whatever the guest printed does nothing to their terminals. */
function said(
  { status, output }: GuestRun,
  { hookSeconds = defaultSeconds }: HookRequest,
): { how: string; output: string } {
  const how = status === null ? `did not end within ${hookSeconds} s` : `ended with status ${status}`;
  const harmless = output.replace(/[^\P{C}\n\t]/gu, "");
  return { how, output: harmless === "" ? "" : `:\n${harmless}` };
}

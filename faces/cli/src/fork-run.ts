import type { ApiClient, ForkResult } from "@skep/api";
import { toSkepError } from "@skep/base";
import type { Context } from "./context.ts";
import { formatError } from "./error-text.ts";
import { fail } from "./errors.ts";
import { Fleet, type FleetRun } from "./fleet.ts";
import { printable, styleFor } from "./style.ts";

/** What ends this command, with the status of a program that it ended. */
const signals = { SIGINT: 130, SIGTERM: 143, SIGHUP: 129 } as const;
type Signal = keyof typeof signals;
const removedAtOnce = 8;

/**
 * Runs a command on every copy of a machine, and removes the copies. Resolves with the worst of the commands'
 * statuses. A signal, or a reader that has gone, ends the commands; the copies are removed all the same.
 */
export async function runOnCopies(
  context: Context,
  result: ForkResult,
  { line, keep }: { line: string; keep: boolean },
): Promise<number> {
  const names = result.copies.map(({ name }) => name);
  const { json = false, quiet = false } = context.options;
  const width = Math.max(...names.map((name) => name.length));
  const style = styleFor(process.stdout);
  const label = (name: string) => style.dim(`${name.padEnd(width)} | `);
  const fleet = new Fleet({ client: await context.client(), names, line, collect: json, label });
  let ended: number | undefined;
  const onSignal = (signal: Signal) => {
    if (ended === undefined) context.note(keep ? "ending" : "ending; the copies are removed");
    ended ??= signals[signal];
    fleet.end(signal.slice("SIG".length));
  };
  for (const signal of Object.keys(signals) as Signal[]) process.on(signal, onSignal);
  // Elsewhere nothing is left to do when nobody reads: here the copies are.
  const readers = process.stdout.listeners("error") as ((error: Error) => void)[];
  const onUnread = () => {
    ended ??= 0;
    fleet.end("TERM");
  };
  process.stdout.removeAllListeners("error").on("error", onUnread);
  try {
    const runs = await fleet.run();
    if (json) context.printJson({ ...result, runs, kept: keep });
    else if (!quiet) tell(runs);
    const worst = Math.max(...runs.map(({ status }) => status));
    return ended ?? worst;
  } finally {
    if (!keep) await remove(context, result.copies);
    for (const signal of Object.keys(signals) as Signal[]) process.off(signal, onSignal);
    process.stdout.off("error", onUnread);
    for (const reader of readers) process.stdout.on("error", reader);
  }
}

function tell(runs: readonly FleetRun[]): void {
  for (const { name, status, error } of runs) {
    if (status === 0) continue;
    const how = error === undefined ? `ended with status ${status}` : error;
    process.stderr.write(`${printable(`${name}: ${how}`)}\n`);
  }
}

/** All of them with their volumes, whatever becomes of one; a failure is told. */
async function remove(context: Context, copies: ForkResult["copies"]): Promise<void> {
  const client = await context.client();
  const left = [...copies];
  const failed: { name: string; error: unknown }[] = [];
  const worker = async () => {
    for (let copy = left.shift(); copy !== undefined; copy = left.shift()) {
      const { name, volumes } = copy;
      try {
        // Somebody else may be faster, and have made another one; its volumes are ours all the same.
        if (await isThere(client, copy)) {
          await client.job("removeMachine", { path: { name }, query: { force: true } }).catch(unlessGone);
        }
        for (const volume of volumes) {
          await client
            .job("removeVolume", { path: { volume }, query: { snapshots: true } })
            .catch(unlessGone);
        }
      } catch (error) {
        failed.push({ name, error });
      }
    }
  };
  await Promise.all(Array.from({ length: removedAtOnce }, worker));
  if (failed.length === 0) return;
  const { json = false, verbose = false } = context.options;
  for (const { error } of failed) process.stderr.write(formatError(toSkepError(error), { json, verbose }));
  const list = failed.map(({ name }) => name).join(" ");
  throw fail("COPIES_LEFT", { names: list }, { cause: failed[0]?.error });
}

async function isThere(client: ApiClient, { name, id }: ForkResult["copies"][number]): Promise<boolean> {
  const found = await client.call("getMachine", { path: { name } }).catch(unlessGone);
  return found?.id === id;
}

/** One that is a copy's root disk goes with the copy. */
function unlessGone(error: unknown): void {
  if (!["MACHINE_NOT_FOUND", "VOLUME_NOT_FOUND"].includes(toSkepError(error).code)) throw error;
}

import { rm } from "node:fs/promises";
import type { ForkedMachine, ForkRequest, ForkResult } from "@skep/api/schemas";
import { newId, SkepError, Undo, type Work } from "@skep/base";
import {
  abandonFork,
  beginForks,
  type ClonedFrom,
  cloneVolumes,
  createFork,
  finishForks,
  type Machine,
  type Machines,
  type VolumeOfMachine,
  writeForkSeed,
} from "@skep/machines";
import { startCopy } from "./fork-copy.ts";
import { failFork } from "./fork-errors.ts";
import { checkNamesFree, namesOfCopies } from "./fork-names.ts";
import { takeSnapshotSource } from "./fork-snapshot.ts";
import { copiesAtOnce, type TakenSource, takeSource } from "./fork-source.ts";
import type { FrozenMachines } from "./frozen.ts";
import type { SnapshotVolume } from "./snapshot-volumes.ts";
import type { Reach } from "./standstill.ts";

export interface ForkOptions {
  machines: Machines;
  frozen: FrozenMachines;
  work: Work;
  reach: Reach;
  /** Has something done when the copies are told of. */
  later(work: (signal: AbortSignal) => Promise<void>): void;
}

/**
 * Copies a machine that runs, with its memory: all of the copies, or none. The machine is held up only until it
 * goes on; others may use it while its copies are made.
 */
export async function forkMachine(
  name: string,
  request: ForkRequest,
  { machines, frozen, work, reach, later }: ForkOptions,
): Promise<ForkResult> {
  const started = performance.now();
  const names = namesOfCopies(name, request);
  const { files, damaged } = machines.files();
  const taken = new Set([...files.map((file) => file.name), ...damaged]);
  checkNamesFree(name, names, (one) => taken.has(one));
  const { identity = true, force = false } = request;
  work.report({ phase: `keeping ${name} as it stands` });
  const options = { frozen, count: names.length, identity, force, work, reach };
  const take = (machine: Machine) =>
    request.snapshot === undefined
      ? takeSource(machine, options)
      : takeSnapshotSource(machine, request.snapshot, options);
  await using source = await machines.withMachine(name, take, work.signal);
  await reach("fork-frozen");
  const copies = await source.context.turns.runAll(names, async () => {
    work.signal.throwIfAborted();
    return await makeCopies(source, names, { identity, started, work, reach });
  });
  for (const { name: copy } of copies) later((signal) => writeSeedOf(machines, copy, signal));
  const { pauseMs, populatedMiB } = source;
  return { source: name, pauseMs, populatedMiB, durationMs: Math.round(performance.now() - started), copies };
}

interface Making {
  identity: boolean;
  started: number;
  work: Work;
  reach: Reach;
}

/** Within a turn of each name. */
async function makeCopies(
  source: TakenSource,
  names: readonly string[],
  { identity, started, work, reach }: Making,
): Promise<ForkedMachine[]> {
  const failed = new AbortController();
  const signal = AbortSignal.any([work.signal, failed.signal]);
  const total = names.length;
  let done = 0;
  const report = () => work.report({ phase: `forking ${source.file.name}`, done, total, unit: "steps" });
  // What they report of each copy alone would only flicker.
  const quiet: Work = { signal, report() {}, note: work.note };
  const copies: Machine[] = [];
  await using undo = new Undo();
  const mark = await beginForks(source.context);
  undo.push(() => rm(mark, { force: true }));
  report();
  const make = async (name: string) => {
    const { file, layers } = source;
    try {
      const clones = source.volumes.map(cloneOf);
      const volumes = clones.map(({ volume }) => volume);
      const where = source.efiVars === undefined ? {} : { efiVars: source.efiVars };
      const from = { source: file, layers, hostKeys: [], mark, volumes, keepsSeed: !identity, ...where };
      const machine = await createFork(source.context, name, from, quiet);
      copies.push(machine);
      undo.push(() => abandonFork(machine));
      await reach("fork-created");
      await cloneVolumes(machine, clones, source.takesSnapshots);
      await reach("fork-cloned");
      const made = await startCopy(source, machine, { identity, started, work: quiet, reach });
      done += 1;
      report();
      return made;
    } catch (error) {
      work.signal.throwIfAborted();
      throw readable(error, name, file.name);
    }
  };
  const made = await eachAtOnce(names, failed, make);
  const told = made.map(({ copy }) => copy);
  // Not before all are ready: it would hold up the others.
  await Promise.all(made.map(({ keep }) => keep()));
  work.signal.throwIfAborted();
  await reach("fork-all-ready");
  await finishForks(mark, copies);
  undo.keep();
  await reach("fork-finished");
  await source.copied();
  for (const { name, identity: steps } of told) {
    for (const { step, outcome, why } of steps) {
      if (outcome === "failed") work.note(`${name}: ${step} was not done: ${why}`);
    }
  }
  return told;
}

/** A copy's volume in the place of its source's, and what it is made of. */
function cloneOf({ snapshot, ...volume }: SnapshotVolume): ClonedFrom & { volume: VolumeOfMachine } {
  const id = newId("vol");
  return { id, source: { volume: volume.id, snapshot }, volume: { ...volume, id, detaching: false } };
}

/**
 * For a copy's next boot, while it is in use; nothing where it has a seed of its own. What cannot be written now is at
 * the next start of skepd, or of the machine.
 */
export async function writeSeedOf(machines: Machines, name: string, signal: AbortSignal): Promise<void> {
  const write = async (machine: Machine) => {
    await writeForkSeed(machine).catch((error: unknown) =>
      machine.context.log.warn({ machine: name, err: error }, "cannot write its seed"),
    );
  };
  await machines.withMachine(name, write, signal).catch(() => undefined); // it may be gone by now
}

/**
 * Does the same for all, a few at a time, in their order. After a failure nothing more is begun, what is under way
 * is told by `failed`, and once all of that is over the first failure is thrown.
 */
async function eachAtOnce<T, R>(
  all: readonly T[],
  failed: AbortController,
  work: (one: T) => Promise<R>,
): Promise<R[]> {
  const results: R[] = [];
  let next = 0;
  let failure: { error: unknown } | undefined;
  const worker = async () => {
    while (next < all.length && failure === undefined) {
      const index = next;
      next += 1;
      try {
        results[index] = await work(all[index] as T);
      } catch (error) {
        failure ??= { error };
        failed.abort(error);
      }
    }
  };
  await Promise.all(Array.from({ length: Math.min(copiesAtOnce, all.length) }, worker));
  if (failure !== undefined) throw failure.error;
  return results;
}

/** What went wrong, with the copy's name where it says nothing of it. */
function readable(error: unknown, name: string, machine: string): unknown {
  if (error instanceof SkepError || (error as Error).name === "AbortError") return error;
  return failFork("FORK_FAILED", { name, machine, why: (error as Error).message }, { cause: error });
}

/** What became of a fork that an earlier process left half done; unfinished copies have gone at its start. */
export function recoverFork(machines: Machines, name: string, request: ForkRequest): "finished" | "undone" {
  const { files } = machines.files();
  const copies = new Set(files.filter(({ from }) => from === name).map((file) => file.name));
  return namesOfCopies(name, request).every((copy) => copies.has(copy)) ? "finished" : "undone";
}

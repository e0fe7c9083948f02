import { randomBytes } from "node:crypto";
import { readdirSync } from "node:fs";
import { stat } from "node:fs/promises";
import { constants, setPriority } from "node:os";
import type { TemplateBuild } from "@skep/api/schemas";
import { type Progress, SkepError, Undo, type Work } from "@skep/base";
import {
  abandonFork,
  type DiskLayers,
  endQemu,
  guestRun,
  holdLayers,
  type LiveMachine,
  type Machine,
  type Machines,
  startMachine,
} from "@skep/machines";
import { removeState } from "./commit.ts";
import { checkHelper, holdServices } from "./fork-source.ts";
import { freezeMachine } from "./freeze.ts";
import type { Frozen, FrozenMachines } from "./frozen.ts";
import { packFrozen } from "./pack-frozen.ts";
import type { Reach } from "./standstill.ts";
import { sizes } from "./suspend.ts";
import { failTemplate } from "./template-errors.ts";
import { type TemplateRecord, writeTemplate } from "./template-record.ts";
import { settle } from "./template-settle.ts";
import { bootsAnyway, shapeOf, type TemplateShape } from "./template-shape.ts";

export interface BuildOptions {
  home: string;
  machines: Machines;
  frozen: FrozenMachines;
  /** One that is there already and does; then nothing is built. */
  find(shape: TemplateShape): TemplateRecord | undefined;
  /** Whether all else that runs on this host goes first. */
  low: boolean;
  work: Work;
  reach: Reach;
}

/** Room in the seed's device for the user-data of those who begin from it; zeros, which take none on disk. */
const seedRoomBytes = 4 * 1024 ** 2;
const agentLimitMs = 60_000;
/** Of the guest's own time: until whoever waited for a new machine has logged in. */
const sessionSeconds = 60;
const sessionLimitMs = 120_000;

/**
 * Boots a machine that nobody sees, until its first boot is over, and keeps it as it stands. The template is there
 * as a whole once its record is written; on failure, or cancelled, nothing is. `frozen` is its memory, which the
 * caller disposes of; undefined where there was such a template. TEMPLATE_REFUSED, TEMPLATE_FAILED, MEMORY_SHORT.
 */
export async function buildTemplate(
  request: TemplateBuild,
  options: BuildOptions,
): Promise<{ template: TemplateRecord; frozen?: Frozen }> {
  const { machines, work, reach } = options;
  const name = `template-${randomBytes(4).toString("hex")}`;
  // What they report of a machine that nobody knows would only puzzle.
  const quiet: Work = { ...work, report() {} };
  work.report({ phase: `booting ${request.image ?? "the default image"} for a template` });
  const machine = await machines.createHidden({ ...request, name, cold: true }, seedRoomBytes, quiet);
  const image = machine.file.image?.name ?? "";
  try {
    const why = await bootsAnyway(machine);
    if (why !== undefined) {
      const hint = "machines like that boot from their disks";
      throw failTemplate("TEMPLATE_REFUSED", { image, why, hint });
    }
    const shape = await shapeOf(machine, work.signal);
    const there = options.find(shape);
    if (there !== undefined) return { template: there };
    await reach("template-created");
    return await make(machine, shape, options);
  } catch (error) {
    work.signal.throwIfAborted();
    if (error instanceof SkepError && !/^(FORK|HELPER|AGENT|INTERNAL)/.test(error.code)) throw error;
    throw failTemplate("TEMPLATE_FAILED", { image, why: (error as Error).message }, { cause: error });
  } finally {
    await abandonFork(machine);
  }
}

async function make(
  machine: Machine,
  shape: TemplateShape,
  { home, frozen: all, low, work, reach }: BuildOptions,
): Promise<{ template: TemplateRecord; frozen: Frozen }> {
  const { context } = machine;
  await startMachine(machine, { ...work, report() {} });
  const live = machine.running();
  if (low) yieldToOthers(live.process.pid);
  await reach("template-started");
  const { agent } = await settle(live, work);
  const keysFile = agent ? await keysFileOf(live, work.signal) : null;
  if (agent) await beginSession(live, work.signal);
  const seedBytes = machine.file.seeded ? (await stat(machine.paths.seed)).size : 0;
  const { publicKey } = await context.ownKeys();
  await reach("template-settled");
  const { frozen, layers, populatedMiB } = await freezeMachine(live, {
    ...{ frozen: all, work, disks: true, reach },
    hold: {
      check: () => checkHelper(live, work.signal, ["own-file"]),
      begin: () => holdServices(live, work.signal),
      end: async () => {}, // it goes on only in its copies
    },
  });
  const letLayersGo = await holdLayers(context, layers as DiskLayers);
  await using undo = new Undo();
  undo.push(() => frozen[Symbol.asyncDispose]());
  try {
    await endQemu(live);
    const storing = {
      ...work,
      report: (progress: Progress) => work.report({ ...progress, phase: "storing its memory" }),
    };
    const { manifest, digest } = await packFrozen(frozen, { home, kind: "template", work: storing });
    undo.push(() => removeState(home, frozen.id));
    await reach("template-packed");
    const template: TemplateRecord = {
      version: 1,
      id: frozen.id,
      createdAt: manifest.createdAt,
      ...shape,
      digest,
      mac: machine.file.mac,
      layer: layers?.disk ?? null,
      seedBytes,
      keysFile,
      publicKeys: machine.file.seeded ? [publicKey] : [],
      agent,
      populatedMiB,
      storedBytes: sizes(manifest.memory, manifest.device).storedBytes,
    };
    work.signal.throwIfAborted();
    await writeTemplate(home, template);
    undo.keep();
    await reach("template-written");
    return { template, frozen };
  } finally {
    letLayersGo();
  }
}

/** Threads begin with the priority of the one that started them. */
function yieldToOthers(pid: number): void {
  for (const thread of readdirSync(`/proc/${pid}/task`)) {
    try {
      setPriority(Number(thread), constants.priority.PRIORITY_LOW);
    } catch {
      // it has ended
    }
  }
}

/**
 * The first login to a guest starts its user's own systemd, which takes seconds where it is emulated. So somebody is
 * logged in when the template is kept, and a little longer in each machine that goes on from it.
 */
async function beginSession(live: LiveMachine, signal: AbortSignal): Promise<void> {
  const { context, file } = live.machine;
  const script = `systemd-run --quiet --collect --unit=skep-session \
  su --login "$1" --command 'sleep ${sessionSeconds}' || exit
until systemctl is-active --quiet "user@$(id -u "$1")"; do
  systemctl is-active --quiet skep-session || exit
  sleep 1
done`;
  const limits = { timeoutMs: sessionLimitMs, signal };
  try {
    const { status, output } = await guestRun(live.agent, ["/bin/sh", "-c", script, "sh", file.user], limits);
    if (status !== 0) throw new Error(`it ended with status ${status}: ${output}`);
  } catch (error) {
    signal.throwIfAborted();
    context.log.info({ err: error }, "a template is kept without anybody logged in");
  }
}

/** Where the login user's authorized keys are; null where that cannot be told, or it has none. */
async function keysFileOf(live: LiveMachine, signal: AbortSignal): Promise<string | null> {
  const { user, seeded } = live.machine.file;
  if (!seeded) return null;
  const script = `home=$(getent passwd "$1" | cut -d: -f6) && test -f "$home/.ssh/authorized_keys" && echo "$home"`;
  const command = ["/bin/sh", "-c", script, "sh", user];
  const { status, output } = await guestRun(live.agent, command, { timeoutMs: agentLimitMs, signal });
  return status === 0 && /^\/[^\s]{0,1000}$/.test(output) ? `${output}/.ssh/authorized_keys` : null;
}

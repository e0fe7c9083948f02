import type { Work } from "@skep/base";
import {
  abandonWarm,
  admitForks,
  beginWarm,
  enlarge,
  finishWarm,
  guestRun,
  holdLayers,
  type LaterSeed,
  type LiveMachine,
  type Machine,
  type MachineFile,
} from "@skep/machines";
import type { HelperStep } from "@skep/qmp";
import { startCopy } from "./fork-copy.ts";
import type { FrozenMachines } from "./frozen.ts";
import { frozenFromState } from "./frozen-state.ts";
import type { Reach } from "./standstill.ts";
import type { TemplateRecord } from "./template-record.ts";
import { retell } from "./template-told.ts";
import { runFirstBoot } from "./warm-first-boot.ts";

const ownLimitMs = 60_000;

export interface WarmOptions {
  frozen: FrozenMachines;
  /** What of its seed is to be done. */
  seed: Exclude<LaterSeed, { why: string }>;
  work: Work;
  reach: Reach;
}

/** Why this machine's seed cannot be applied to a guest that goes on from that template; undefined: it can. */
export function seedUnfit(template: TemplateRecord, seed: WarmOptions["seed"]): string | undefined {
  if (seed.bytes > template.seedBytes) return "its user-data is larger than what its template has room for";
  if (seed.firstBoot) return template.agent ? undefined : "no agent in the guest can apply its user-data";
  const keysFit = sameKeys(template, seed) || template.keysFile !== null;
  return keysFit ? undefined : "where its ssh keys belong could not be told";
}

function sameKeys({ publicKeys }: TemplateRecord, seed: WarmOptions["seed"]): boolean {
  return (
    publicKeys.length === seed.publicKeys.length && seed.publicKeys.every((key) => publicKeys.includes(key))
  );
}

/**
 * The first start of a machine, within its turn, where a template is: with an identity of its own, its keys and its
 * user-data, it runs and is ready when this returns. Where it fails the machine is as it was, without QEMU. What is
 * given back, if anything, is to be called once: it makes its file of keys its user's, while the guest is in use.
 */
export async function startFromTemplate(
  machine: Machine,
  template: TemplateRecord,
  { frozen, seed, work, reach }: WarmOptions,
): Promise<((signal: AbortSignal) => Promise<void>) | undefined> {
  const { context, file, name } = machine;
  const started = performance.now();
  const layers = { disk: template.layer, dataDisks: [] };
  const letLayersGo = holdLayers(context, layers);
  try {
    await using kept = await frozenFromState(frozen, { state: template.id, digest: template.digest }, work);
    await admitForks(context, { name, memoryMiB: file.memoryMiB, count: 1, force: false });
    if (file.seeded) await enlarge(machine.paths.seed, template.seedBytes);
    await beginWarm(machine, template.layer);
    await reach("warm-begun");
    const source = {
      context,
      file: kept.record.machine as unknown as MachineFile,
      frozen: kept,
      layers,
      pauseMs: null,
      populatedMiB: template.populatedMiB,
      async [Symbol.asyncDispose]() {},
    };
    const keys = seed.firstBoot || sameKeys(template, seed) ? null : template.keysFile;
    const more = seed.firstBoot ? [] : retell(template.told, source.file, file);
    if (keys !== null) more.push(keysStep(keys, seed.publicKeys));
    const { keep } = await startCopy(source, machine, {
      ...{ identity: true, started, work, reach, more },
      firstBoot: seed.firstBoot,
      durable: !seed.firstBoot,
    });
    if (machine.file.mac !== file.mac) throw new Error("its guest could not be given its MAC");
    const live = machine.running();
    if (seed.firstBoot) await runFirstBoot(live, work);
    await reach("warm-ready");
    work.signal.throwIfAborted();
    await keep();
    await finishWarm(machine);
    machine.setState("running");
    machine.setReady("helper");
    return keys !== null && template.agent ? (signal) => giveKeys(live, keys, signal) : undefined;
  } catch (error) {
    await abandonWarm(machine);
    if (machine.file.mac !== file.mac) await machine.save({ mac: file.mac });
    throw error;
  } finally {
    letLayersGo();
  }
}

/** Readable for the user's own ssh server process, though it is root's at first. */
function keysStep(path: string, publicKeys: readonly string[]): HelperStep {
  return { verb: "file", path, mode: 0o644, content: Buffer.from(`${publicKeys.join("\n")}\n`) };
}

/** As at its next boot: until then, or where nobody does it, the keys serve all the same. */
const ownKeysScript = `chown --reference="\${1%/*}" "$1" && chmod 600 "$1"`;

async function giveKeys({ machine, agent }: LiveMachine, path: string, signal: AbortSignal): Promise<void> {
  const limits = { timeoutMs: ownLimitMs, signal, low: true };
  const { status, output } = await guestRun(agent, ["/bin/sh", "-c", ownKeysScript, "sh", path], limits);
  if (status === 0) return;
  throw new Error(`the keys of ${machine.name} are not their user's file (status ${status}): ${output}`);
}

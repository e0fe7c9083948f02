import type { Work } from "@skep/base";
import {
  abandonWarm,
  admitForks,
  beginWarm,
  enlarge,
  finishWarm,
  holdLayers,
  type LaterSeed,
  type Machine,
  type MachineFile,
} from "@skep/machines";
import { startCopy } from "./fork-copy.ts";
import type { FrozenMachines } from "./frozen.ts";
import { frozenFromState } from "./frozen-state.ts";
import type { Reach } from "./standstill.ts";
import type { TemplateRecord } from "./template-record.ts";
import { runFirstBoot } from "./warm-first-boot.ts";

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
 * user-data, it runs and is ready when this returns. Where it fails the machine is as it was, without QEMU.
 */
export async function startFromTemplate(
  machine: Machine,
  template: TemplateRecord,
  { frozen, seed, work, reach }: WarmOptions,
): Promise<void> {
  const { context, file, name } = machine;
  const started = performance.now();
  const layers = { disk: template.layer, dataDisks: [] };
  const letLayersGo = await holdLayers(context, layers);
  try {
    await using kept = await frozenFromState(frozen, { state: template.id, digest: template.digest }, work);
    const { memoryMiB } = file;
    await admitForks(context, { name, memoryMiB, count: 1, force: false, except: machine });
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
    const { keep } = await startCopy(source, machine, {
      ...{ identity: true, started, work, reach },
      ...(keys === null ? {} : { authorizedKeys: { path: keys, publicKeys: seed.publicKeys } }),
      firstBoot: seed.firstBoot,
      durable: !seed.firstBoot,
    });
    if (machine.file.mac !== file.mac) throw new Error("its guest could not be given its MAC");
    if (seed.firstBoot) await runFirstBoot(machine.running(), work);
    await reach("warm-ready");
    work.signal.throwIfAborted();
    await keep();
    await finishWarm(machine);
    if (machine.state === "starting") machine.setState("running");
    machine.setReady("helper");
  } catch (error) {
    await abandonWarm(machine);
    if (machine.file.mac !== file.mac) await machine.save({ mac: file.mac });
    throw error;
  } finally {
    letLayersGo();
  }
}

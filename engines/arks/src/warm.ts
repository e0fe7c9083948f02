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
 * given back is to be called once: it tidies up in the guest, meanwhile that is in use.
 */
export async function startFromTemplate(
  machine: Machine,
  template: TemplateRecord,
  { frozen, seed, work, reach }: WarmOptions,
): Promise<(signal: AbortSignal) => Promise<void>> {
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
    const more = keys === null ? [] : [keysStep(keys, seed.publicKeys)];
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
    const isTidy = seed.firstBoot || !template.agent;
    return async (signal) => {
      if (!isTidy) await tidyUp(live, source.file, keys, signal);
    };
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

/**
 * The file of keys becomes its user's, and what cloud-init tells of the running system is that of this machine. Both
 * are so from the next boot on anyway; until this is done, or where nobody does it, keys serve all the same.
 */
const tidyScript = `[ -z "$1" ] || { chown --reference="\${1%/*}" "$1" && chmod 600 "$1"; } || exit
cd /run/cloud-init 2>/dev/null || exit 0
for file in .instance-id *.json; do
  [ ! -f "$file" ] || [ -L "$file" ] || sed -i "s/$2/$3/g; s/$4/$5/g" "$file" || exit
done`;

async function tidyUp(
  { machine, agent }: LiveMachine,
  template: MachineFile,
  keys: string | null,
  signal: AbortSignal,
): Promise<void> {
  const { file, name } = machine;
  const command = ["/bin/sh", "-c", tidyScript, "sh", keys ?? "", template.id, file.id, template.name, name];
  // Whoever logs in meanwhile goes first.
  const limits = { timeoutMs: ownLimitMs, signal, low: true };
  const { status, output } = await guestRun(agent, command, limits);
  if (status !== 0) throw new Error(`the guest of ${name} was not tidied up (status ${status}): ${output}`);
}

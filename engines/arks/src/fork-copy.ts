import { appendFile } from "node:fs/promises";
import { setImmediate as nextTurn } from "node:timers/promises";
import type { ForkedMachine, IdentityStep } from "@skep/api/schemas";
import type { Work } from "@skep/base";
import { type LiveMachine, launchIncoming, type Machine } from "@skep/machines";
import { differences } from "./compat.ts";
import { failFork } from "./fork-errors.ts";
import type { ForkSource } from "./fork-source.ts";
import { heard } from "./heard.ts";
import { hostRecord } from "./host-record.ts";
import {
  type AuthorizedKeys,
  closingRequest,
  identityOf,
  identityRequest,
  keysInUse,
  lackOf,
  quickHostKeys,
  type Wanted,
  waitsForKey,
} from "./identity.ts";
import { patchMac } from "./mac-patch.ts";
import { hasConfiguration, loadDevices } from "./migration.ts";
import { makeHostKey } from "./ssh-host-keys.ts";
import type { Reach } from "./standstill.ts";

/** A copy among many on a busy host, all of it emulated. */
const identityLimitMs = 90_000;
/** For `heard`, of one among many that begin at once. */
const listenLimitMs = 2000;
const keptMac: IdentityStep = {
  step: "mac",
  outcome: "failed",
  why: "it was not found where it should be in what QEMU saved, so the copy keeps its source's",
};

export interface CopyOptions {
  identity: boolean;
  /** When the copies were asked for, by `performance.now()`. */
  started: number;
  work: Work;
  reach: Reach;
  /** Whose login user is not its source's. */
  authorizedKeys?: AuthorizedKeys;
  /** Its cloud-init is to see a new instance. The caller has that done, and says when it is ready. */
  firstBoot?: boolean;
  /** `keep` is part of it: sooner for one alone, and later for many at once. */
  durable?: boolean;
}

export interface StartedCopy {
  copy: ForkedMachine;
  /** Has its identity on its disk; a copy that is cut off before may come back as its source. FORK_IDENTITY. */
  keep(): Promise<void>;
}

/** Has a machine that was made by `createFork` go on as its source was; where it fails no QEMU is left. */
export async function startCopy(
  source: ForkSource,
  machine: Machine,
  { identity, started, work, reach, authorizedKeys, firstBoot = false, durable = false }: CopyOptions,
): Promise<StartedCopy> {
  const { record, id } = source.frozen;
  const device = await source.frozen.device();
  const { signal } = work;
  const patched = identity ? patchMac(device, source.file.mac, machine.file.mac) : undefined;
  if (patched === undefined) await machine.save({ mac: source.file.mac });
  let told: IdentityStep[] = [];
  let readyMs: number | undefined;
  let keep = async () => {};
  await launchIncoming(machine, work, {
    memory: { frozen: id, gid: record.gid },
    deviceForm: hasConfiguration(device) ? "migration" : "xen",
    helper: record.host.devices.argv.some((argument) => argument.includes("org.skep.helper.0")),
    async load(live) {
      await checkSame(source, live, signal);
      // Before the load: the saved port has a host that listens, and so it has to be.
      if (identity) await live.helper.connect({ signal });
      await loadDevices(live, patched ?? device, signal);
      await reach("fork-loaded");
      signal.throwIfAborted();
      if (!identity) return void (await live.qmp.execute("cont"));
      const mac = patched === undefined ? null : machine.file.mac;
      const wanted = { mac, authorizedKeys, firstBoot, durable, awake: !record.slicesFrozen };
      told = await giveIdentity(source, live, wanted, signal);
      if (patched === undefined) told.push(keptMac);
      if (!firstBoot) machine.setReady("helper");
      readyMs = Math.round(performance.now() - started);
      if (!durable) keep = () => keepIdentity(source, live, signal);
    },
  });
  await reach("fork-ready");
  const { mac, ssh } = machine.view();
  readyMs ??= Math.round(performance.now() - started);
  const volumes = machine.file.volumes.map((volume) => volume.id);
  const copy = { name: machine.name, id: machine.file.id, mac, ssh, readyMs, volumes, identity: told };
  return { copy, keep };
}

/** QEMU itself looks at hardly any of it, and a guest that stumbles over it just hangs. */
async function checkSame(
  { frozen, file }: ForkSource,
  live: LiveMachine,
  signal: AbortSignal,
): Promise<void> {
  const [difference] = differences(frozen.record.host, await hostRecord(live, signal));
  if (difference === undefined) return;
  const hint = `restart it, and fork it then: skep restart ${file.name}`;
  throw failFork("FORK_REFUSED", { machine: file.name, why: difference, hint });
}

/** Lets the guest go on, and gives it what is its own before anything else in it can answer. FORK_IDENTITY. */
async function giveIdentity(
  source: ForkSource,
  live: LiveMachine,
  wanted: Omit<Wanted, "keys">,
  signal: AbortSignal,
): Promise<IdentityStep[]> {
  const { machine, helper, qmp } = live;
  const { file, name, paths } = machine;
  const limits = { signal, timeoutMs: identityLimitMs };
  const keys = await Promise.all(quickHostKeys.map(makeHostKey));
  const all = { ...wanted, keys };
  const asked = helper.exchange(identityRequest(file, all), limits);
  asked.catch(() => undefined); // whoever awaits it may fail before
  await nextTurn(); // it is written by now
  await qmp.execute("cont");
  const unheard = () => {
    throw failFork("FORK_HELPER", { machine: source.file.name, why: "nothing in it listens" });
  };
  let answers = await heard(asked, { live, limitMs: listenLimitMs, unheard });
  if (waitsForKey(answers)) {
    const key = await makeHostKey("rsa");
    keys.push(key);
    const rest = answers.findIndex(({ verb }) => verb === "unless");
    answers = [...answers.slice(0, rest), ...(await helper.exchange(closingRequest(key, name, all), limits))];
  }
  const identity = identityOf(answers, keys);
  const lack = lackOf(identity);
  if (lack !== undefined) {
    const { step, why } = lack;
    throw failFork("FORK_IDENTITY", { name, machine: source.file.name, step, why });
  }
  const known = keysInUse(answers, keys).map(({ publicKey }) => `${name}.skep ${publicKey}\n`);
  await appendFile(paths.knownHosts, known.join(""), { mode: 0o600 });
  return identity;
}

async function keepIdentity(
  source: ForkSource,
  { machine, helper }: LiveMachine,
  signal: AbortSignal,
): Promise<void> {
  const [synced] = await helper.exchange([{ verb: "sync" }], { signal, timeoutMs: identityLimitMs });
  if (synced?.outcome === "done") return;
  const { name } = machine;
  const why = synced?.why ?? "";
  throw failFork("FORK_IDENTITY", { name, machine: source.file.name, step: "sync", why });
}

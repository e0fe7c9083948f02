/**
 * The other side of `npm run bench:state`: what a person would write who has read how it is done, with the same
 * QEMU, and without records, verification, admission or a way back. bench:state bundles it and runs it as
 * `script VERB PATH…`; it tells what it has measured itself as JSON.
 */
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { GuestHelper, type HelperStep, QmpClient } from "@skep/qmp";
import { copy, freeze, makeRam } from "./state-script-fork.ts";
import { packMemory, unpackMemory } from "./state-script-memory.ts";
import { loadDevices, readMachine, saveDevices, startQemu, writeMachine } from "./state-script-qemu.ts";

/** Memory stays where it is on tmpfs, too. */
async function suspend(directory: string) {
  const machine = readMachine(directory);
  const qmp = await QmpClient.connect(join(directory, "qmp.sock"));
  await qmp.hmp("qemu-io -d disk-root flush");
  await qmp.execute("stop");
  const devices = await saveDevices(qmp, directory);
  writeFileSync(join(directory, "devices"), devices, { flush: true });
  const storedBytes = await packMemory(machine.ram, directory);
  await Promise.all([qmp.closed, qmp.execute("quit")]);
  return { storedBytes };
}

/** `kept`: from the memory on tmpfs; `packed`: from the chunks. `thaw`: its services were held. */
async function resume(directory: string, from: string, how?: string) {
  const machine = readMachine(directory);
  if (from === "packed") {
    rmSync(machine.ram, { force: true });
    makeRam(machine.ram, machine.memoryBytes);
  }
  const filled = from === "packed" ? unpackMemory(directory, machine.ram) : undefined;
  const qmp = await startQemu(machine);
  const helper = new GuestHelper(join(directory, "helper.sock"));
  await helper.connect();
  await filled;
  await loadDevices(qmp, directory, readFileSync(join(directory, "devices")));
  const clock: HelperStep = { verb: "clock", unixMs: Date.now() };
  const asked = helper.exchange(how === "thaw" ? [clock, { verb: "thaw" }] : [clock]);
  await qmp.execute("cont");
  await asked;
  helper.disconnect();
  await qmp.close();
  writeMachine(machine);
  return {};
}

async function fork(directory: string, frozen: string, into: string) {
  const frozenAs = await freeze(directory, frozen);
  return { ...frozenAs, ...(await copy(frozen, into)) };
}

type Verb = (...paths: never[]) => Promise<object & { readyAt?: number }>;

const verbs: Record<string, Verb> = { suspend, resume, freeze, copy, fork };
const [verb = "", ...paths] = process.argv.slice(2);
const started = performance.now();
const { readyAt, ...told } = await (verbs[verb] as Verb)(...(paths as never[]));
console.log(JSON.stringify({ ...told, ...(readyAt === undefined ? {} : { readyMs: readyAt - started }) }));

/** Freezing a running machine of the script, and copies of it with identities of their own. */
import { execFile } from "node:child_process";
import { randomBytes, randomUUID } from "node:crypto";
import {
  closeSync,
  copyFileSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readFileSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { basename, join } from "node:path";
import { promisify } from "node:util";
import { GuestHelper, type HelperStep, QmpClient } from "@skep/qmp";
import { copyRanges, populatedRanges } from "./state-script-memory.ts";
import {
  loadDevices,
  type RootDisk,
  readMachine,
  rootNode,
  saveDevices,
  startQemu,
  writeMachine,
} from "./state-script-qemu.ts";

const run = promisify(execFile);

export interface ScriptFreeze {
  pauseMs: number;
  populatedMiB: number;
}

/**
 * Keeps a running machine as it stands in a new directory: memory in `ram` there, which should be on tmpfs, and
 * `devices`. Services are held meanwhile, and wake so in the copies.
 */
export async function freeze(directory: string, frozen: string): Promise<ScriptFreeze> {
  const machine = readMachine(directory);
  const qmp = await QmpClient.connect(join(directory, "qmp.sock"));
  const helper = new GuestHelper(join(directory, "helper.sock"));
  const held = helper.exchange([{ verb: "freeze", seconds: 120 }]);
  mkdirSync(frozen, { recursive: true });
  const ram = join(frozen, "ram");
  makeRam(ram, machine.memoryBytes);
  const { blocks } = statSync(machine.ram);
  const ranges = await populatedRanges(machine.ram);
  copyRanges(machine.ram, ram, ranges);
  await qmp.hmp("qemu-io -d disk-root flush");
  const node = `root-${randomBytes(4).toString("hex")}`;
  const path = join(directory, `${node}.qcow2`);
  copyFileSync(machine.emptyDisk, path);
  await qmp.execute("blockdev-add", rootNode(machine, { node, path, backing: null }));
  await held;

  const stopped = performance.now();
  await qmp.execute("stop");
  const devices = await saveDevices(qmp, directory);
  copyRanges(
    machine.ram,
    ram,
    statSync(machine.ram).blocks === blocks ? ranges : await populatedRanges(machine.ram),
  );
  const data = { node: machine.root.node, overlay: node };
  await qmp.execute("transaction", { actions: [{ type: "blockdev-snapshot", data }] });
  await qmp.execute("cont");
  const pauseMs = performance.now() - stopped;

  await helper.exchange([{ verb: "thaw" }]);
  helper.disconnect();
  await qmp.close();
  writeFileSync(join(frozen, "devices"), devices);
  const backing = diskBelow(machine.root);
  writeMachine({ ...machine, directory: frozen, ram, borrowed: true, root: { ...machine.root, backing } });
  writeMachine({ ...machine, root: { node, path, backing } });
  return { pauseMs, populatedMiB: ranges.reduce((sum, { length }) => sum + length, 0) / 2 ** 20 };
}

function diskBelow({ path, backing }: RootDisk): object {
  const file = { driver: "file", filename: path, "read-only": true };
  return { driver: "qcow2", "read-only": true, file, ...(backing === undefined ? {} : { backing }) };
}

export function makeRam(path: string, bytes: number): void {
  const file = openSync(path, "w", 0o600);
  ftruncateSync(file, bytes);
  closeSync(file);
}

/** Starts a copy in a new directory: `readyAt` by `performance.now()`, when its helper has said that it is its own. */
export async function copy(frozen: string, directory: string): Promise<{ readyAt: number }> {
  const source = readMachine(frozen);
  mkdirSync(directory);
  const keys = hostKeys(source.hostKeys, directory);
  const path = join(directory, "disk.qcow2");
  copyFileSync(source.emptyDisk, path);
  const mac = `52:54:00:${randomBytes(3)
    .toString("hex")
    .replace(/..(?=.)/g, "$&:")}`;
  const machine = { ...source, directory, mac, root: { ...source.root, path } };
  const qmp = await startQemu(machine);
  const helper = new GuestHelper(join(directory, "helper.sock"));
  await helper.connect();
  const devices = withMac(readFileSync(join(frozen, "devices")), source.mac, mac);
  await loadDevices(qmp, directory, devices);
  const identity = helper.exchange([
    { verb: "seed", bytes: randomBytes(64) },
    { verb: "clock", unixMs: Date.now() },
    { verb: "mac", address: mac },
    { verb: "hostname", name: basename(directory) },
    { verb: "machine-id", id: randomUUID().replaceAll("-", "") },
    { verb: "instance", id: randomUUID() },
    ...(await keys),
    { verb: "reload-sshd" },
    { verb: "thaw" },
  ]);
  await qmp.execute("cont");
  const failed = (await identity).find(({ outcome }) => outcome === "failed");
  if (failed !== undefined) throw new Error(`${failed.verb}: ${failed.why}`);
  const readyAt = performance.now();
  await helper.exchange([{ verb: "sync" }]); // its identity is to outlive a power cut
  helper.disconnect();
  await qmp.close();
  writeMachine(machine);
  return { readyAt };
}

async function hostKeys(types: readonly string[], directory: string): Promise<HelperStep[]> {
  const made = types.map(async (type): Promise<HelperStep[]> => {
    const name = `ssh_host_${type}_key`;
    const path = join(directory, name);
    await run("ssh-keygen", ["-q", "-t", type, "-N", "", "-C", "", "-f", path]);
    return [
      { verb: "own-file", path: `/etc/ssh/${name}`, mode: 0o600, content: readFileSync(path) },
      { verb: "own-file", path: `/etc/ssh/${name}.pub`, mode: 0o644, content: readFileSync(`${path}.pub`) },
    ];
  });
  return (await Promise.all(made)).flat();
}

/** A guest's network knows it by its MAC, which stands in the device state at a few places. */
function withMac(state: Buffer, from: string, to: string): Buffer {
  const [old, fresh] = [from, to].map((mac) => Buffer.from(mac.replaceAll(":", ""), "hex")) as [
    Buffer,
    Buffer,
  ];
  for (let at = state.indexOf(old); at >= 0; at = state.indexOf(old, at + 6)) fresh.copy(state, at);
  return state;
}

/** QEMU as a script would drive it: the command line of skep's own machine, its monitor, and its device state. */
import { spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { closeSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { connectUnix, QmpClient } from "@skep/qmp";

/** A machine of the script, as `machine.json` in its directory has it. */
export interface ScriptMachine {
  directory: string;
  /** With {directory}, {ram}, {share}, {tb}, {uuid}, {generation}, {mac} and {root} for what differs. */
  argv: string[];
  /** Of the node that its disk is; the file's name and what is below are added. */
  rootOptions: object;
  root: RootDisk;
  /** An empty disk of that size, to be copied. */
  emptyDisk: string;
  /** On tmpfs; its own, or the frozen one that it borrows. */
  ram: string;
  borrowed: boolean;
  memoryBytes: number;
  mac: string;
  /** Types of the guest's ssh host keys. */
  hostKeys: string[];
}

export interface RootDisk {
  node: string;
  path: string;
  backing: object | undefined;
}

export function readMachine(directory: string): ScriptMachine {
  return JSON.parse(readFileSync(join(directory, "machine.json"), "utf8"));
}

export function writeMachine(machine: ScriptMachine): void {
  writeFileSync(join(machine.directory, "machine.json"), JSON.stringify(machine));
}

export function rootNode({ rootOptions }: ScriptMachine, { node, path, backing }: RootDisk | NewRoot) {
  const file = { driver: "file", filename: path, discard: "unmap" };
  return { ...rootOptions, "node-name": node, file, ...(backing === undefined ? {} : { backing }) };
}

/** Put on top of another one by QEMU itself. */
interface NewRoot extends Omit<RootDisk, "backing"> {
  backing: null;
}

/** Starts QEMU, which waits for a state, and connects to its monitor. It outlives this process. */
export async function startQemu(machine: ScriptMachine): Promise<QmpClient> {
  const { directory, ram, borrowed, mac } = machine;
  machine.root = { ...machine.root, node: "root" };
  const values: Record<string, string> = {
    directory,
    ram,
    share: borrowed ? "off" : "on",
    tb: borrowed ? "64" : "256",
    uuid: randomUUID(),
    generation: randomUUID(),
    mac,
    root: JSON.stringify(rootNode(machine, machine.root)),
  };
  const argv = machine.argv.map((word) =>
    word.replace(/\{(\w+)\}/g, (all, name: string) => values[name] ?? all),
  );
  const [program = "", ...args] = [...argv, "-incoming", "defer", "-S"];
  const socket = join(directory, "qmp.sock");
  rmSync(socket, { force: true });
  const log = openSync(join(directory, "qemu.log"), "a");
  const child = spawn(program, args, { detached: true, stdio: ["ignore", log, log], cwd: "/" });
  closeSync(log);
  child.unref();
  let ended = false;
  child.once("exit", () => {
    ended = true;
  });
  for (;;) {
    try {
      return await QmpClient.connect(socket, { timeoutMs: 60_000 });
    } catch (error) {
      if (ended)
        throw new Error(readFileSync(join(directory, "qemu.log"), "utf8").slice(-2000), { cause: error });
    }
    await sleep(2);
  }
}

/** Only devices travel; memory stays in its file. Gives what settles when the migration is over. */
async function prepare(qmp: QmpClient): Promise<{ over: Promise<void> }> {
  const capabilities = ["x-ignore-shared", "events"].map((capability) => ({ capability, state: true }));
  await qmp.execute("migrate-set-capabilities", { capabilities });
  await qmp.execute("migrate-set-parameters", { "max-bandwidth": 2 ** 36 });
  const isEnd = (status: unknown) => status === "completed" || status === "failed";
  const end = qmp.nextEvent(({ event, data }) => event === "MIGRATION" && isEnd(data?.status));
  return {
    over: end.then(({ data }) => {
      if (data?.status !== "completed") throw new Error(`QEMU's migration has ${data?.status}`);
    }),
  };
}

/** The device state of a machine that stands still. */
export async function saveDevices(qmp: QmpClient, directory: string): Promise<Buffer> {
  const path = join(directory, "outgoing.sock");
  rmSync(path, { force: true });
  const parts: Buffer[] = [];
  const server = createServer();
  const received = new Promise<void>((resolve) => {
    server.once("connection", (socket) => {
      socket.on("data", (part) => parts.push(part)).once("end", resolve);
    });
  });
  await new Promise<void>((resolve) => server.listen(path, resolve));
  const { over } = await prepare(qmp);
  await qmp.execute("migrate", { uri: `unix:${path}` });
  await Promise.all([over, received]);
  server.close();
  return Buffer.concat(parts);
}

export async function loadDevices(qmp: QmpClient, directory: string, state: Uint8Array): Promise<void> {
  const path = join(directory, "incoming.sock");
  rmSync(path, { force: true });
  const { over } = await prepare(qmp);
  await qmp.execute("migrate-incoming", { uri: `unix:${path}` });
  const socket = await connectUnix(path, 10_000);
  socket.on("error", () => {});
  socket.end(state);
  await over;
  socket.destroy();
}

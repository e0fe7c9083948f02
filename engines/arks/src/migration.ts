import { constants } from "node:fs";
import { type FileHandle, lchown, open, rm } from "node:fs/promises";
import { createServer, type Socket } from "node:net";
import { join } from "node:path";
import type { LiveMachine, Machine } from "@skep/machines";
import { connectUnix, type QmpEvent } from "@skep/qmp";
import { collectDevice } from "./device.ts";
import type { DeviceForm } from "./types.ts";

/** Bytes a second: no limit. QEMU's own would stretch the pause. */
const unlimited = 2 ** 36;
/** A device state is written in some 20 ms; a host under heavy load may take longer. */
const migrationLimitMs = 60_000;
const connectLimitMs = 10_000;

/** Only devices travel: what guests share with a file stays there. Events tell of the end. */
async function prepareMigration({ qmp }: LiveMachine, signal: AbortSignal): Promise<void> {
  const capabilities = ["x-ignore-shared", "events"].map((capability) => ({ capability, state: true }));
  await qmp.execute("migrate-set-capabilities", { capabilities }, { signal });
  await qmp.execute("migrate-set-parameters", { "max-bandwidth": unlimited }, { signal });
}

/** Call it before what starts the migration. */
function migrationEnd({ qmp }: LiveMachine, signal: AbortSignal): Promise<QmpEvent> {
  const isEnd = ({ event, data }: QmpEvent) =>
    event === "MIGRATION" && ["completed", "failed", "cancelled"].includes(String(data.status));
  const end = qmp.nextEvent(isEnd, { signal, timeoutMs: migrationLimitMs });
  end.catch(() => undefined); // whoever awaits it may fail before
  return end;
}

/** Where QEMU writes its device state to us. */
function outgoingSocket({ runtime }: Machine): string {
  return join(runtime.directory, "state.sock");
}

/** Where QEMU writes its device state as for Xen: in its own directory, as the user it runs as. */
function outgoingFile({ runtime }: Machine): string {
  return join(runtime.qemu, "devices");
}

/** Removes what one who saves devices leaves when it is killed. */
export async function clearOutgoing(machine: Machine): Promise<void> {
  for (const path of [outgoingSocket(machine), outgoingFile(machine)]) await rm(path, { force: true });
}

/** How the devices of a running machine are saved: a migration would take all of borrowed memory along. */
export function deviceForm({ frozen }: LiveMachine): DeviceForm {
  return frozen === null ? "migration" : "xen";
}

/** The device state of a machine that stands still, in its `deviceForm`. */
export async function readDevices(live: LiveMachine, signal: AbortSignal): Promise<Buffer> {
  await clearOutgoing(live.machine);
  return deviceForm(live) === "migration"
    ? await migrateDevices(live, signal)
    : await dumpDevices(live, signal);
}

async function migrateDevices(live: LiveMachine, signal: AbortSignal): Promise<Buffer> {
  const { file } = live.machine;
  await prepareMigration(live, signal);
  const path = outgoingSocket(live.machine);
  const server = createServer();
  const connected = Promise.withResolvers<Socket>();
  connected.promise.catch(() => undefined);
  server.once("connection", (socket) => connected.resolve(socket));
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(path, resolve);
  });
  try {
    // The directory is ours: nobody can have put a link there.
    if (file.uid !== null) await lchown(path, file.uid, file.uid);
    const end = migrationEnd(live, signal);
    end.catch((error) => connected.reject(error));
    await live.qmp.execute("migrate", { uri: `unix:${path}` }, { signal });
    const socket = await connected.promise;
    try {
      const collected = collectDevice(socket, signal);
      collected.catch(() => undefined);
      const { data } = await end;
      if (data.status !== "completed") throw new Error(`QEMU's migration has ${data.status}`);
      return await collected;
    } finally {
      socket.destroy();
    }
  } finally {
    server.close(); // and with it goes the socket's file
  }
}

/** Not as a part of a live migration (`live`): its disks stay in use. */
async function dumpDevices(live: LiveMachine, signal: AbortSignal): Promise<Buffer> {
  const path = outgoingFile(live.machine);
  try {
    const request = { filename: path, live: false };
    await live.qmp.execute("xen-save-devices-state", request, { signal, timeoutMs: migrationLimitMs });
    // QEMU owns the directory: neither a link nor a pipe may be there for us.
    const file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    try {
      if (!(await file.stat()).isFile()) throw new Error(`QEMU has put something else at ${path}`);
      return await collectDevice(partsOf(file), signal);
    } finally {
      await file.close();
    }
  } finally {
    await rm(path, { force: true });
  }
}

const partBytes = 1_048_576;

async function* partsOf(file: FileHandle): AsyncGenerator<Uint8Array> {
  for (;;) {
    const { buffer, bytesRead } = await file.read({ buffer: Buffer.alloc(partBytes) });
    if (bytesRead === 0) return;
    yield buffer.subarray(0, bytesRead);
  }
}

const headerBytes = 8;
const configurationSection = 7;

/**
 * Whether a device state begins with the machine's configuration, as QEMU expects it unless it is told
 * otherwise (`-global migration.send-configuration=off`; migration/savevm.c). What is written for Xen does not,
 * nor does whatever a QEMU writes that was told so for its own start.
 */
export function hasConfiguration(state: Uint8Array): boolean {
  return state[headerBytes] === configurationSection;
}

/** Loads a device state into a QEMU that was started with `-incoming defer`. */
export async function loadDevices(live: LiveMachine, state: Uint8Array, signal: AbortSignal): Promise<void> {
  const { runtime } = live.machine;
  await prepareMigration(live, signal);
  const path = join(runtime.qemu, "incoming.sock");
  const end = migrationEnd(live, signal);
  await live.qmp.execute("migrate-incoming", { uri: `unix:${path}` }, { signal });
  const socket = await connectUnix(path, connectLimitMs, signal);
  socket.on("error", () => {}); // QEMU closes it where it refuses; `end` says so
  try {
    socket.end(state);
    const { data } = await end;
    if (data.status !== "completed") throw new Error(`QEMU's migration has ${data.status}`);
  } finally {
    socket.destroy();
  }
}

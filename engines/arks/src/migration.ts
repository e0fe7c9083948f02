import { lchown } from "node:fs/promises";
import { createServer, type Socket } from "node:net";
import { join } from "node:path";
import type { LiveMachine } from "@skep/machines";
import { connectUnix, type QmpEvent } from "@skep/qmp";
import { packDevice } from "./device.ts";
import type { DeviceRecord } from "./types.ts";

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

/** Writes the device state of a machine that stands still into a state's directory. */
export async function saveDevices(
  live: LiveMachine,
  directory: string,
  signal: AbortSignal,
): Promise<DeviceRecord> {
  const { file, runtime } = live.machine;
  await prepareMigration(live, signal);
  const path = join(runtime.directory, "state.sock");
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
      const stored = packDevice({ from: socket, directory, signal });
      stored.catch(() => undefined);
      const { data } = await end;
      if (data.status !== "completed") throw new Error(`QEMU's migration has ${data.status}`);
      return await stored;
    } finally {
      socket.destroy();
    }
  } finally {
    server.close(); // and with it goes the socket's file
  }
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

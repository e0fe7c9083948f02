import { rm } from "node:fs/promises";
import { join } from "node:path";
import { controlSocket, daemonFile, runtimeDirectory, writeFileAtomic } from "@skep/base";
import {
  createControl,
  Events,
  type ImageEngine,
  type MachineEngine,
  type NewEvent,
  openStore,
  type Recover,
  type StateEngine,
  type StorageEngine,
  type VolumeEngine,
} from "@skep/control";
import { clearSocket, lockHome, prepareRuntime } from "@skep/daemon";
import type { Logger } from "pino";
import { readConfig, writeConfig } from "./config.ts";

/** What `skepd.json` in the runtime directory says. */
export interface DaemonInfo {
  pid: number;
  version: string;
  socket: string;
  startedAt: string;
  listen: string | null;
}

/** The rooms below, opened for one home. */
export interface Engines extends AsyncDisposable {
  machines: MachineEngine;
  states: StateEngine;
  images: ImageEngine;
  storage: StorageEngine;
  volumes: VolumeEngine;
  recover: Recover;
  /** Starts the machines that start with the host, and object storage where it was up. */
  autostart(): Promise<void>;
}

export interface EngineOptions {
  home: string;
  /** The short directory for sockets. */
  runtime: string;
  log: Logger;
  onEvent(event: NewEvent): void;
}

export interface DaemonOptions {
  home: string;
  version: string;
  log: Logger;
  /** Instead of the address in the home's configuration; not stored. */
  listen?: string;
  openEngines(options: EngineOptions): Promise<Engines>;
}

export interface Daemon {
  readonly info: DaemonInfo;
  /** Resolves when somebody asked for the end over the API. */
  readonly asked: Promise<void>;
  /** Ends the daemon; machines run on. */
  close(): Promise<void>;
}

/** Opens everything in order and is ready when it returns; what was opened is closed on failure. */
export async function startDaemon(options: DaemonOptions): Promise<Daemon> {
  const { home, log, version } = options;
  await using opened = new AsyncDisposableStack();
  opened.use(await lockHome(home, { program: "skepd", infoFile: daemonFile(home) }));
  const runtime = runtimeDirectory(home);
  await prepareRuntime(runtime, home);
  const socket = controlSocket(home);
  await clearSocket(socket);
  const config = await readConfig(home);

  const store = openStore(join(home, "skep.db"));
  opened.defer(() => store.close());
  const events = new Events();
  const engines = opened.use(
    await options.openEngines({ home, runtime, log, onEvent: (event) => events.publish(event) }),
  );
  const asked = Promise.withResolvers<void>();
  const startedAt = new Date().toISOString();
  const writeInfo = async (listen: string | null): Promise<DaemonInfo> => {
    const info: DaemonInfo = { pid: process.pid, version, socket, startedAt, listen };
    await writeFileAtomic(daemonFile(home), `${JSON.stringify(info)}\n`);
    return info;
  };
  const control = await createControl({
    machines: engines.machines,
    states: engines.states,
    images: engines.images,
    storage: engines.storage,
    volumes: engines.volumes,
    store,
    log,
    version,
    home,
    events,
    tlsDirectory: join(home, "tls"),
    async saveListen(listen) {
      await writeConfig(home, { ...config, listen });
      await writeInfo(listen);
    },
    shutdown: () => asked.resolve(),
  });
  opened.use(control);
  await control.listenUnix(socket);
  opened.defer(() => rm(socket, { force: true }));
  const listen = options.listen ?? config.listen;
  if (listen !== null) {
    // A configured address that is gone must not keep the owner out of the local socket.
    await control.listenTls(listen).catch((error: unknown) => {
      if (options.listen !== undefined) throw error;
      log.error({ err: error }, "cannot listen on the configured address");
    });
  }
  const info = await writeInfo(control.listening());
  opened.defer(() => rm(daemonFile(home), { force: true }));

  // What an earlier skepd left half done comes first, so that nothing starts that is to be undone.
  void control.jobs
    .recover(engines.recover)
    .then(() => engines.autostart())
    .catch((error: unknown) => log.error({ err: error }, "cannot recover or start machines"));
  log.info({ ...info, home }, "ready");
  const closing = opened.move();
  return { info, asked: asked.promise, close: () => closing.disposeAsync() };
}

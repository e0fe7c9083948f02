/** A control on its own home and socket, for the tests of this room. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ApiClient } from "@skep/api";
import { type Control, createControl } from "./control.ts";
import { openStore } from "./store.ts";
import { DirectoryMachines, DirectoryStates, MapStorage, noVolumes, OneImage, silentLog } from "./testing.ts";

export interface TestControl extends AsyncDisposable {
  control: Control;
  client: ApiClient;
  machines: DirectoryMachines;
  home: string;
  socket: string;
  /** What `saveListen` was told last. */
  savedListen(): string | null | undefined;
}

export async function testControl(): Promise<TestControl> {
  await using opened = new AsyncDisposableStack();
  const home = await mkdtemp(join(tmpdir(), "sk-"));
  opened.defer(() => rm(home, { recursive: true, force: true }));
  const store = openStore(join(home, "skep.db"));
  opened.defer(() => store.close());
  const machines = new DirectoryMachines(home);
  let saved: string | null | undefined;
  const control = opened.use(
    await createControl({
      machines,
      states: new DirectoryStates(machines),
      images: new OneImage(),
      storage: new MapStorage(home),
      volumes: noVolumes,
      store,
      log: silentLog,
      version: "1.2.3",
      home,
      tlsDirectory: join(home, "tls"),
      saveListen: async (address) => {
        saved = address;
      },
      shutdown() {},
    }),
  );
  const socket = join(home, "s");
  await control.listenUnix(socket);
  const client = opened.use(new ApiClient({ socket }));
  const all = opened.move();
  return {
    control,
    client,
    machines,
    home,
    socket,
    savedListen: () => saved,
    [Symbol.asyncDispose]: () => all.disposeAsync(),
  };
}

import { join } from "node:path";
import { NbdServer } from "@skep/nbd";
import { EmbeddedStore, type ObjectStore } from "@skep/objects";
import { type ForeignOptions, ForeignStore } from "@skep/objects/foreign";
import { openVolumes } from "../index.ts";
import type { CreateVolume } from "../types.ts";

/**
 * `kill-child.ts DIRECTORY VOLUME FOREIGN`: serves a volume at DIRECTORY/volume.sock until it is killed, after it
 * has made it where it is missing. VOLUME and FOREIGN are JSON: a CreateVolume with its id, and where the S3 is
 * (null: an embedded store). Says `ready`, and `checked FINDINGS` when it was told `check`.
 */
const [directory, request, foreign] = process.argv.slice(2) as [string, string, string];

async function openStore(options: ForeignOptions | null): Promise<ObjectStore> {
  if (options !== null) return new ForeignStore(options);
  const store = await EmbeddedStore.open({ directory: join(directory, "objects") });
  await store.bucket("volumes").catch(() => store.createBucket("volumes", { owner: "test" }));
  return store.objects("volumes");
}

const wanted = JSON.parse(request) as CreateVolume & { id: string };
const { id } = wanted;
const volumes = openVolumes({
  store: await openStore(JSON.parse(foreign) as ForeignOptions | null),
  directory: join(directory, "volumes"),
  host: "here",
  keys: {
    wrap: (key, name) => JSON.stringify([name, Buffer.from(key).toString("hex")]),
    unwrap: (wrapped) => Buffer.from((JSON.parse(wrapped) as [string, string])[1], "hex"),
  },
});
const all = await volumes.list();
if (!all.some((one) => one.id === id)) await volumes.create(wanted);
const volume = await volumes.open(id);
const server = new NbdServer({ onError: (error, where) => console.error(where, error) });
server.add({ name: "", device: volume });
await server.listen({ path: join(directory, "volume.sock") });
process.stdout.write("ready\n");

process.stdin.once("data", async () => {
  await server.remove("");
  await volume.collectGarbage();
  await volume.close();
  process.stdout.write(`checked ${JSON.stringify((await volumes.check(id)).findings)}\n`);
});

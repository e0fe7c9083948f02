/** Reads on a host that has nothing of the volume: no WAL, no cache, no page of it in memory. */
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { interleave, median } from "./measure.ts";
import { startGateway } from "./objects-servers.ts";
import { fio, gib, kib4, mib, type Setting } from "./volumes-fio.ts";
import type { Place } from "./volumes-host.ts";
import type { Part } from "./volumes-report.ts";
import { type Side, startQcow2, startQemuNbd, startS3backer } from "./volumes-sides.ts";
import { dropPageCache, serveVolume, startHost, startVolume } from "./volumes-volume.ts";

const sizeBytes = 8 * gib;

interface Device {
  /** Empty. */
  make(): Promise<Side>;
  /** Anew, with what was written, and cold. */
  start(): Promise<Side>;
}

export async function benchCold(setting: Setting): Promise<Part[]> {
  const { directory } = setting;
  await using gateway = await startGateway(directory);
  const { endpoint } = gateway;
  const embedded = volume(setting, "embedded", { directory: join(directory, "store") });
  const onS3 = volume(setting, "s3", { endpoint });
  const image = { path: join(directory, "disk.qcow2"), format: "qcow2", cache: "writeback" } as const;
  const qcow2: Device = {
    make: () => startQcow2(directory, sizeBytes),
    async start() {
      await dropPageCache(directory);
      return startQemuNbd(directory, image);
    },
  };
  const backing = { prefix: "cold-", sizeBytes, mode: "write-back" } as const;
  const start = () => startS3backer(directory, endpoint, backing);
  const s3backer: Device = { make: start, start };
  return [
    await compareCold(setting, "on the embedded store, against qcow2", { skep: embedded, qcow2 }),
    await compareCold(setting, "on Ceph's radosgw, against s3backer", { skep: onS3, s3backer }),
    {
      name: "cold open",
      title: "open after a clean close, on a host that has nothing of the volume",
      rows: [embedded, onS3].map(({ name, openMs }) => ({
        what: name,
        unit: "ms" as const,
        value: median(openMs),
      })),
    },
  ];
}

async function compareCold(setting: Setting, title: string, devices: Record<string, Device>): Promise<Part> {
  const rangeBytes = (setting.full ? 1024 : 128) * mib;
  for (const { make } of Object.values(devices)) {
    await using side = await make();
    await fio(side.uri, { rw: "write", blockBytes: mib, depth: 4, rangeBytes });
  }
  const each = (read: (uri: string) => Promise<number>) =>
    interleave(
      setting.rounds,
      Object.fromEntries(
        Object.entries(devices).map(([name, device]) => [
          name,
          async () => {
            await using side = await device.start();
            return await read(side.uri);
          },
        ]),
      ),
    );
  // Few enough that hardly a block is read twice.
  const few = {
    rw: "randread",
    blockBytes: kib4,
    depth: 32,
    rangeBytes,
    totalBytes: rangeBytes / 64,
  } as const;
  const all = { rw: "read", blockBytes: mib, depth: 4, rangeBytes } as const;
  return {
    name: "cold",
    title: `cold reads ${title}; ${rangeBytes / mib} MiB`,
    rows: [
      {
        what: "4 KiB random read, 32 at a time",
        unit: "/s",
        values: await each(async (uri) => (await fio(uri, few)).perSecond),
        limits: {},
      },
      {
        what: "1 MiB sequential read",
        unit: "MB/s",
        values: await each(async (uri) => (await fio(uri, all)).bytesPerSecond / 1e6),
        limits: {},
      },
    ],
  };
}

function volume({ directory, profile }: Setting, name: string, place: Place) {
  const local = join(directory, name);
  const openMs: number[] = [];
  let id = "";
  const device: Device = {
    async make() {
      await using opening = new AsyncDisposableStack();
      const host = opening.use(await startHost(place, local));
      const made = await startVolume(host, directory, { sizeBytes });
      id = made.id;
      const all = opening.move();
      return { uri: made.uri, [Symbol.asyncDispose]: () => all.disposeAsync() };
    },
    async start() {
      await rm(local, { recursive: true });
      await dropPageCache(directory);
      await using opening = new AsyncDisposableStack();
      const host = opening.use(await startHost(place, local, profile));
      openMs.push((await host.call("open", id)).ms);
      const uri = await serveVolume(host, directory, id);
      const all = opening.move();
      return { uri, [Symbol.asyncDispose]: () => all.disposeAsync() };
    },
  };
  return { name, openMs, ...device };
}

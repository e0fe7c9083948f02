/** What opening costs, what overwriting sends to the store, what a volume costs that nobody uses. */
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { NbdClient } from "@skep/nbd";
import { gib, mib, type Setting } from "./volumes-fio.ts";
import type { Part, Single } from "./volumes-report.ts";
import { startHost, startVolume } from "./volumes-volume.ts";

const atMostMs = 1000;
const atMostMiB = 64;

/** Of a volume of 100 GiB with 10 GiB written; after a clean end, and after a kill with all the WAL holds. */
export async function benchOpen({ directory, full, profile }: Setting): Promise<Part[]> {
  const scale = full ? 1 : 0.1;
  const [sizeBytes, totalBytes] = [100 * gib * scale, 10 * gib * scale];
  const place = { directory: join(directory, "store") };
  const local = join(directory, "volumes");
  const rows: Single[] = [];
  for (const order of ["ascending", "random"] as const) {
    let id: string;
    {
      await using host = await startHost(place, local);
      id = await host.call("create", { sizeBytes });
      await host.call("open", id);
      await host.call("write", id, { order, totalBytes, rangeBytes: sizeBytes });
      await host.call("close", id);
    }
    await using host = await startHost(place, local, profile);
    const { ms, grownBytes } = await host.call("open", id);
    const { mapMemoryBytes, extents } = await host.call("statistics", id);
    const what = `${totalBytes / gib} GiB of ${sizeBytes / gib} written, ${order}: ${extents} extents`;
    rows.push(
      { what, unit: "ms", value: ms, limit: atMostMs },
      { what: "… its map", unit: "MiB", value: mapMemoryBytes / mib, limit: atMostMiB },
      { what: "… the process has grown by", unit: "MiB", value: grownBytes / mib },
    );
  }
  const killed = await openAfterKill(place, local, profile);
  return [
    {
      name: "open",
      title: "open, in a new process",
      rows: [...rows, ...killed],
    },
  ];
}

/** The store takes nothing until the WAL is at its limit; then the process is killed. */
async function openAfterKill(
  place: { directory: string },
  local: string,
  profile: string | undefined,
): Promise<Single[]> {
  const rangeBytes = 8 * gib;
  let id: string;
  let walBytes = 0;
  {
    await using host = await startHost(place, local);
    id = await host.call("create", { sizeBytes: rangeBytes });
    await host.call("open", id);
    await host.call("stall");
    host.call("write", id, { order: "random", totalBytes: rangeBytes, rangeBytes }).catch(() => undefined);
    for (let last = -1; walBytes === 0 || walBytes !== last; await sleep(1000)) {
      last = walBytes;
      ({ walBytes } = await host.call("statistics", id));
    }
    await host.kill();
  }
  await using host = await startHost(place, local, profile);
  const { ms } = await host.call("open", id);
  const what = `after kill -9, with ${(walBytes / mib).toFixed(0)} MiB of random writes in the WAL`;
  return [{ what, unit: "ms", value: ms }];
}

/** Bytes sent to the store for each byte of overwriting, maps and manifests included. */
export async function benchOverwrite({ directory, full, profile }: Setting): Promise<Part[]> {
  const scale = full ? 1 : 0.1;
  const [rangeBytes, totalBytes] = [gib * scale, 10 * gib * scale];
  const place = { directory: join(directory, "store") };
  await using host = await startHost(place, join(directory, "volumes"), profile);
  const id = await host.call("create", { sizeBytes: 8 * gib });
  await host.call("open", id);
  await host.call("write", id, { order: "ascending", totalBytes: rangeBytes, rangeBytes });
  await host.call("drain", id);
  const before = await host.call("statistics", id);
  await host.call("write", id, { order: "random", totalBytes, rangeBytes });
  await host.call("drain", id);
  const after = await host.call("statistics", id);
  const amount = `${(totalBytes / gib).toFixed(0)} GiB of 4 KiB random overwrites over ${rangeBytes / mib} MiB`;
  return [
    {
      name: "overwrite",
      title: amount,
      rows: [
        {
          what: "bytes sent to the store for each byte written",
          unit: "times",
          value: (after.bytesToStore - before.bytesToStore) / totalBytes,
          limit: 2,
        },
        {
          what: "what its chunks take, of what it holds",
          unit: "times",
          value: after.storedBytes / after.mappedBytes,
        },
      ],
    },
  ];
}

/** Open, written once, drained, with a client that asks for nothing, as a guest's disk. */
export async function benchIdle({ directory, profile }: Setting): Promise<Part[]> {
  const count = 50;
  const place = { directory: join(directory, "store") };
  await using opened = new AsyncDisposableStack();
  const host = opened.use(await startHost(place, join(directory, "volumes"), profile));
  const add = async () => {
    const { id, uri } = await startVolume(host, directory, { sizeBytes: 20 * gib });
    const client = opened.use(await NbdClient.connect({ uri }));
    for (let at = 0; at < 64; at += 1) await client.write(at * mib, Buffer.alloc(mib / 16, 1));
    await host.call("drain", id);
  };
  for (let first = 0; first < 5; first += 1) await add(); // what is made with the first ones is not a volume's
  await sleep(5000);
  const before = await host.call("residentBytes");
  for (let made = 0; made < count; made += 1) await add();
  await sleep(5000);
  const each = ((await host.call("residentBytes")) - before) / count;
  return [
    {
      name: "idle",
      title: `${count} volumes, each with 4 MiB written and a client connected`,
      rows: [{ what: "resident memory of each", unit: "MB", value: each / 1e6, limit: 2 }],
    },
  ];
}

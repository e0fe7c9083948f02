/** A volume on the embedded store, as in storaged, against a qcow2 file on the same disk. */
import { join } from "node:path";
import { interleave } from "./measure.ts";
import { compare, fio, kib4, type Load, mib, type Setting } from "./volumes-fio.ts";
import type { Comparison, Part } from "./volumes-report.ts";
import { Host, startQcow2 } from "./volumes-sides.ts";
import { startVolume } from "./volumes-volume.ts";

/** What is measured of a device that keeps its data; `atLeast` of the other side. */
export interface DeviceRow {
  what: string;
  unit: Comparison["unit"];
  load: Load;
  atLeast?: number;
}

export async function benchLocal(setting: Setting): Promise<Part[]> {
  const { directory, full, profile } = setting;
  const sizeBytes = 8 * 2 ** 30;
  const rangeBytes = full ? 4 * 2 ** 30 : 2 ** 29;
  await using opened = new AsyncDisposableStack();
  const host = opened.use(new Host({ profile }));
  await host.call("openStore", { directory: join(directory, "store") }, join(directory, "volumes"));
  const volume = await startVolume(host, directory, { sizeBytes });
  const qcow2 = opened.use(await startQcow2(directory, sizeBytes));
  const sides = { skep: volume.uri, qcow2: qcow2.uri };
  const filling = { rw: "write", blockBytes: mib, depth: 4, rangeBytes } as const;
  const random = (rw: "randread" | "randwrite", depth: number) => ({
    rw,
    blockBytes: kib4,
    depth,
    rangeBytes,
  });
  const rows: DeviceRow[] = [
    {
      what: "1 MiB sequential write, flushed at the end",
      unit: "MB/s",
      load: { ...filling, totalBytes: rangeBytes },
      atLeast: 0.8,
    },
    { what: "1 MiB sequential read", unit: "MB/s", load: { ...filling, rw: "read" }, atLeast: 0.8 },
    { what: "4 KiB random read, 1 at a time", unit: "/s", load: random("randread", 1), atLeast: 0.8 },
    { what: "4 KiB random read, 32 at a time", unit: "/s", load: random("randread", 32), atLeast: 0.8 },
    {
      what: "4 KiB random write, 1 at a time, flush every 32",
      unit: "/s",
      load: { ...random("randwrite", 1), flushEvery: 32 },
      atLeast: 0.8,
    },
    {
      what: "4 KiB random write, 32 at a time, flush every 32",
      unit: "/s",
      load: { ...random("randwrite", 32), flushEvery: 32 },
      atLeast: 0.8,
    },
  ];
  const drain = () => host.call("drain", volume.id);
  const write = async (uri: string, settle: () => Promise<void>) => {
    const { ms } = await fio(uri, filling);
    const start = performance.now();
    await settle();
    return rangeBytes / 1e3 / (ms + performance.now() - start);
  };
  const drained = await interleave(setting.rounds, {
    skep: () => write(sides.skep, drain),
    qcow2: () => write(sides.qcow2, async () => {}),
  });
  return [
    {
      name: "local",
      title: `${rangeBytes / mib} MiB of a volume on the embedded store, and of a qcow2 in qemu-nbd (cache=writeback)`,
      durable:
        "a flush is answered after an fdatasync: of the WAL here, of the image there; both read through the page cache",
      rows: [
        {
          what: "1 MiB sequential write, until all of it is in the store, too",
          unit: "MB/s",
          values: drained,
          limits: {},
        },
        ...(await measure(setting, sides, rows, drain)),
      ],
    },
  ];
}

/** Row by row; before each turn, what waits for the store is drained, so that all begin alike. */
export async function measure(
  setting: Setting,
  sides: Record<string, string>,
  rows: readonly DeviceRow[],
  drain: () => Promise<void>,
): Promise<Comparison[]> {
  const other = Object.keys(sides)[1] as string;
  const measured: Comparison[] = [];
  for (const { what, unit, load, atLeast } of rows) {
    await drain();
    const values = await compare(setting, sides, load, unit, drain);
    measured.push({ what, unit, values, limits: atLeast === undefined ? {} : { [other]: atLeast } });
  }
  return measured;
}

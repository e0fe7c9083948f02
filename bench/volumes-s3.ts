/** Volumes on an S3 that no one here wrote, against s3backer on the same. */
import { join } from "node:path";
import { interleave } from "./measure.ts";
import { startGateway } from "./objects-servers.ts";
import type { Endpoint } from "./objects-wire.ts";
import { fio, gib, kib4, mib, type Setting } from "./volumes-fio.ts";
import { type DeviceRow, measure } from "./volumes-local.ts";
import type { Part } from "./volumes-report.ts";
import { type S3backerMode, startS3backer } from "./volumes-sides.ts";
import { startHost, startVolume } from "./volumes-volume.ts";

const sizeBytes = gib;
const ceph = "Ceph's radosgw (one OSD on the same disk)";

export async function benchS3(setting: Setting): Promise<Part[]> {
  await using gateway = await startGateway(setting.directory);
  return [
    await compareWith(setting, gateway.endpoint, "synchronous"),
    await compareWith(setting, gateway.endpoint, "write-back"),
  ];
}

/** Durability `remote` against s3backer's synchronous mode, `local` against its write-back mode. */
async function compareWith(setting: Setting, endpoint: Endpoint, mode: S3backerMode): Promise<Part> {
  const { directory, full, profile } = setting;
  const rangeBytes = (full ? 512 : 128) * mib;
  const isRemote = mode === "synchronous";
  await using opened = new AsyncDisposableStack();
  const host = opened.use(await startHost({ endpoint }, join(directory, mode), profile));
  const durability = isRemote ? "remote" : "local";
  const volume = await startVolume(host, directory, { sizeBytes, durability });
  const s3backer = opened.use(
    await startS3backer(directory, endpoint, { prefix: `${mode}-`, sizeBytes, mode }),
  );
  const sides = { skep: volume.uri, s3backer: s3backer.uri };
  const drains = { skep: () => host.call("drain", volume.id), s3backer: () => s3backer.drained() };

  const filling = { rw: "write", blockBytes: mib, depth: 4, rangeBytes } as const;
  const write = async (side: keyof typeof sides) => {
    const start = performance.now();
    await fio(sides[side], filling);
    await drains[side]();
    return rangeBytes / 1e3 / (performance.now() - start);
  };
  const rounds = isRemote ? Math.min(setting.rounds, 2) : setting.rounds; // s3backer takes its time
  const sequential = await interleave(rounds, {
    skep: () => write("skep"),
    s3backer: () => write("s3backer"),
  });
  const random = (rw: "randread" | "randwrite", depth: number) => ({
    load: { rw, blockBytes: kib4, depth, rangeBytes, ...(rw === "randwrite" ? { flushEvery: 32 } : {}) },
    unit: "/s" as const,
  });
  const writeLimit = isRemote ? 10 : 1;
  const readLimit = isRemote ? {} : { atLeast: 1.5 };
  const rows: DeviceRow[] = [
    { what: "4 KiB random read, warm, 1 at a time", ...random("randread", 1), ...readLimit },
    { what: "4 KiB random read, warm, 32 at a time", ...random("randread", 32), ...readLimit },
    {
      what: "4 KiB random write, 1 at a time, flush every 32",
      ...random("randwrite", 1),
      atLeast: writeLimit,
    },
    {
      what: "4 KiB random write, 32 at a time, flush every 32",
      ...random("randwrite", 32),
      atLeast: writeLimit,
    },
  ];
  const drain = async () => {
    await Promise.all(Object.values(drains).map((one) => one()));
  };
  return {
    name: `s3 ${durability}`,
    title: `durability ${durability} against s3backer, ${mode}, blocks of 64 KiB, both on ${ceph}; ${rangeBytes / mib} MiB`,
    durable: isRemote
      ? "both answer a flush when all before it is in the store (s3backer already each write)"
      : "ours answers a flush after an fdatasync of the WAL here; s3backer's flush does nothing, its cache is in memory",
    rows: [
      {
        what: "1 MiB sequential write, until all of it is in the store",
        unit: "MB/s",
        values: sequential,
        limits: isRemote ? {} : { s3backer: 2 },
      },
      ...(await measure(setting, sides, rows, drain)),
    ],
  };
}

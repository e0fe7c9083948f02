/** Load over NBD by fio, which no one here wrote. */
import { interleave, timed } from "./measure.ts";

export const kib4 = 4096;
export const mib = 2 ** 20;
export const gib = 2 ** 30;

export interface Load {
  rw: "randread" | "randwrite" | "read" | "write";
  blockBytes: number;
  depth: number;
  /** The part of the device that is read or written. */
  rangeBytes: number;
  /** A flush after so many writes. */
  flushEvery?: number;
  /** For so long; otherwise until `totalBytes` (or the range) are through, with a flush at the end. */
  seconds?: number;
  totalBytes?: number;
}

export interface Rate {
  bytesPerSecond: number;
  perSecond: number;
  /** The flush at the end included. */
  ms: number;
}

interface FioOutput {
  jobs: {
    error: number;
    read: { io_bytes: number; total_ios: number; runtime: number };
    write: { io_bytes: number; total_ios: number; runtime: number };
  }[];
}

/** One job, over one connection, as QEMU has it. */
export async function fio(uri: string, load: Load): Promise<Rate> {
  const flags = { ...loadFlags(load), ioengine: "nbd", uri };
  const words = Object.entries(flags).map(([name, value]) => `--${name}=${value}`);
  return rateOf(load, (await timed(["fio", ...words], process.env)).stdout);
}

/** Data is random, so that nothing is saved by compressing it. */
export function loadFlags(load: Load): Record<string, string | number> {
  const { rw, blockBytes, depth, rangeBytes, flushEvery, seconds, totalBytes = rangeBytes } = load;
  return {
    name: "load",
    rw,
    bs: blockBytes,
    iodepth: depth,
    size: rangeBytes,
    randrepeat: 0,
    norandommap: 1,
    ...(flushEvery === undefined ? {} : { fsync: flushEvery }),
    ...(seconds === undefined
      ? { io_size: totalBytes, end_fsync: rw.endsWith("write") ? 1 : 0 }
      : { time_based: 1, runtime: seconds }),
    "output-format": "json",
  };
}

/** Of what fio has printed. */
export function rateOf({ rw }: Load, output: string): Rate {
  // What the engine says comes before the JSON.
  const { jobs } = JSON.parse(output.slice(output.indexOf("{"))) as FioOutput;
  const job = jobs[0];
  if (job === undefined || job.error !== 0) throw new Error(`fio ended with ${job?.error}`);
  const { io_bytes: bytes, total_ios: requests, runtime } = rw.endsWith("write") ? job.write : job.read;
  const ms = Math.max(1, runtime);
  return { bytesPerSecond: (bytes * 1000) / ms, perSecond: (requests * 1000) / ms, ms };
}

/** How a run was asked for. */
export interface Setting {
  /** Of this run alone; decides the disk. */
  directory: string;
  rounds: number;
  /** Of one side of one row in one round. */
  seconds: number;
  /** Sizes as the issue has them, instead of a tenth. */
  full: boolean;
  /** What has to be undone however the run ends, besides what ends with this process. */
  cleanups: AsyncDisposableStack;
  /** Where profiles of our processes go. */
  profile?: string | undefined;
}

/**
 * Medians of rounds in which the sides took turns, the first one not counted. `settle` is awaited after each
 * turn, so that what a side does in the background falls into nobody else's.
 */
export async function compare(
  { rounds, seconds }: Setting,
  sides: Readonly<Record<string, string>>,
  load: Load,
  unit: "/s" | "MB/s",
  settle: () => Promise<unknown> = async () => {},
): Promise<Record<string, number>> {
  const timing = load.totalBytes === undefined ? { seconds } : {};
  const runs = Object.entries(sides).map(([name, uri]) => [
    name,
    async () => {
      const { perSecond, bytesPerSecond } = await fio(uri, { ...load, ...timing });
      await settle();
      return unit === "/s" ? perSecond : bytesPerSecond / 1e6;
    },
  ]);
  return interleave(rounds, Object.fromEntries(runs));
}

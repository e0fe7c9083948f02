/** What the protocol itself costs: our server on memory against two that are written in C. */
import { compare, fio, kib4, type Load, mib, type Setting } from "./volumes-fio.ts";
import type { Comparison, Part } from "./volumes-report.ts";
import { startMemory, startNbdkit, startQemuNbd } from "./volumes-sides.ts";

const sizeBytes = 2 ** 30;
const rangeBytes = 2 ** 28;

const rows: { what: string; load: Load; unit: Comparison["unit"]; atLeast: number }[] = [
  row("randread", kib4, 32, 1),
  row("randwrite", kib4, 32, 0.7),
  row("randread", kib4, 1, 0.5),
  row("randwrite", kib4, 1, 0.5),
  row("read", mib, 4, 1),
  row("write", mib, 4, 1),
];

export async function benchNbd(setting: Setting): Promise<Part[]> {
  const { directory, profile } = setting;
  await using opened = new AsyncDisposableStack();
  const sides = {
    skep: opened.use(await startMemory(directory, sizeBytes, profile)).uri,
    nbdkit: opened.use(await startNbdkit(directory, sizeBytes)).uri,
    "qemu-nbd null-co": opened.use(await startQemuNbd(directory, { sizeBytes })).uri,
  };
  for (const uri of Object.values(sides)) {
    await fio(uri, { rw: "write", blockBytes: mib, depth: 4, rangeBytes }); // memory is there then
  }
  const measured: Comparison[] = [];
  for (const { what, load, unit, atLeast } of rows) {
    measured.push({
      what,
      unit,
      values: await compare(setting, sides, load, unit),
      limits: { nbdkit: atLeast },
    });
  }
  return [
    {
      name: "nbd",
      title: "the NBD server on memory, one connection over a Unix socket (null-co keeps nothing)",
      rows: measured,
    },
  ];
}

function row(rw: Load["rw"], blockBytes: number, depth: number, atLeast: number) {
  const isRandom = rw.startsWith("rand");
  const verb = rw.endsWith("read") ? "read" : "write";
  return {
    what: `${isRandom ? "4 KiB random" : "1 MiB sequential"} ${verb}, ${depth} at a time`,
    load: { rw, blockBytes, depth, rangeBytes },
    unit: isRandom ? ("/s" as const) : ("MB/s" as const),
    atLeast,
  };
}

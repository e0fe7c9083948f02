/**
 * `npm run bench:objects`: the promises about object storage in docs/SPECIFICATION.md, on this machine.
 * storaged and Ceph's radosgw (one OSD) run on the same disk and are driven in turns by one client over
 * plain HTTP; values are medians of rounds. `--rounds N`, `--directory PATH` (the disk; default /tmp),
 * `--scale F` (share of the usual number of requests), `--no-radosgw`. `--memory` instead: what storaged
 * needs while 5 GiB pass each way (`--gib N`) and with 1,000,000 keys (`--keys N`). Uses the
 * bundle in build/skep, made anew; with $SKEP_BENCH_SOURCE the sources, which need more memory.
 */
import { randomBytes } from "node:crypto";
import { mkdtemp, open, rm, unlink } from "node:fs/promises";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { atLeast, atMost, interleave, printResults, type Result, timed } from "./measure.ts";
import { Client, residentMB, type Side, startGateway, startPlain, startStorage } from "./objects-servers.ts";

process.env.UV_THREADPOOL_SIZE = "16"; // plain files are written by 16 at a time

const { values: options } = parseArgs({
  options: {
    rounds: { type: "string", default: "7" },
    directory: { type: "string", default: "/tmp" },
    scale: { type: "string", default: "1" },
    radosgw: { type: "boolean", default: true },
    memory: { type: "boolean", default: false },
    gib: { type: "string", default: "5" },
    keys: { type: "string", default: "1000000" },
  },
  allowNegative: true,
});
const rounds = Number(options.rounds);
const mib64 = 64 * 1024 * 1024;
const kib4 = 4096;

type Name = "storaged" | "radosgw" | "http" | "files";
type Sides = Partial<Record<Name, Side>>;
interface Row {
  what: string;
  unit: "MB/s" | "/s" | "ms";
  values: Partial<Record<Name, number>>;
  /** Against radosgw. */
  promise: number;
}

const atOnce = [1, 16] as const;
const requests = (concurrency: number) =>
  Math.max(concurrency, Math.round((concurrency === 1 ? 300 : 2400) * Number(options.scale)));

async function measure(client: Client, sides: Sides, directory: string): Promise<Row[]> {
  const rows: Row[] = [];
  const each = (run: (side: Side, name: Name) => Promise<number>, names = Object.keys(sides) as Name[]) =>
    Object.fromEntries(names.map((name) => [name, () => run(sides[name] as Side, name)]));
  const add = (what: string, unit: Row["unit"], promise: number, values: Record<string, number>) =>
    rows.push({ what, unit, values, promise });
  const perSecond = (count: number, times: Record<string, number>) =>
    Object.fromEntries(Object.entries(times).map(([name, ms]) => [name, (count * 1000) / ms]));

  for (const kind of ["put", "get"] as const) {
    const task = { kind, count: 1, concurrency: 1, sizeBytes: mib64, prefix: "large-" };
    const times = await interleave(rounds, {
      ...each((side) => client.run(side, task)),
      ...(kind === "put" ? { files: () => writeFiles(directory, 1, 1, mib64) } : {}),
    } as Record<string, () => Promise<number>>);
    add(`64 MiB ${kind}`, "MB/s", 1, perSecond(mib64 / 1e6, times));
  }
  for (const concurrency of atOnce) {
    const count = requests(concurrency);
    // Each round puts what it gets and deletes: three clocks, one pass.
    const passes: Record<string, { get: number[]; delete: number[] }> = {};
    const pass = async (side: Side, name: Name) => {
      const task = { count, concurrency, sizeBytes: kib4, prefix: `small-${concurrency}-` } as const;
      const put = await client.run(side, { kind: "put", ...task });
      passes[name] ??= { get: [], delete: [] };
      passes[name].get.push(await client.run(side, { kind: "get", ...task }));
      passes[name].delete.push(await client.run(side, { kind: "delete", ...task }));
      return put;
    };
    const puts = await interleave(rounds, {
      ...each(pass),
      files: () => writeFiles(directory, count, concurrency, kib4),
    });
    add(`4 KiB put, ${concurrency} at a time`, "/s", 2, perSecond(count, puts));
    for (const kind of ["get", "delete"] as const) {
      const times = Object.fromEntries(
        // The first round warms up.
        Object.entries(passes).map(([name, all]) => [name, middle(all[kind].slice(1))]),
      );
      add(`4 KiB ${kind}, ${concurrency} at a time`, "/s", 2, perSecond(count, times));
    }
  }
  const stores = (["storaged", "radosgw"] as const).filter((name) => sides[name] !== undefined);
  for (const name of stores) {
    const filling = { kind: "put", count: 10_000, concurrency: 16, sizeBytes: 16, prefix: "list-" } as const;
    await client.run(sides[name] as Side, filling);
  }
  const page = { kind: "list", pages: 10, prefix: "list-", limit: 1000 } as const;
  const pages = await interleave(
    rounds,
    each((side) => client.run(side, page), [...stores]),
  );
  add("page of 1,000 of 10,000 keys", "ms", 1, pages);
  return rows;
}

function middle(values: number[]): number {
  const sorted = values.sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN;
}

/** Milliseconds to write new files and have them on the disk. */
async function writeFiles(
  directory: string,
  count: number,
  concurrency: number,
  sizeBytes: number,
): Promise<number> {
  const bytes = randomBytes(sizeBytes);
  const names = Array.from({ length: count }, (_, n) => join(directory, `plain-${n}`));
  let next = 0;
  const start = performance.now();
  await Promise.all(
    Array.from({ length: concurrency }, async () => {
      while (next < names.length) {
        const name = names[next] as string;
        next += 1;
        await using file = await open(name, "w");
        await file.writeFile(bytes);
        await file.sync();
      }
    }),
  );
  const ms = performance.now() - start;
  for (const name of names) await unlink(name);
  return ms;
}

function print(rows: Row[]): Result[] {
  const names: Name[] = ["storaged", "radosgw", "files", "http"];
  const shown = (row: Row, name: Name) => {
    const value = row.values[name];
    return value === undefined ? "" : `${value.toFixed(row.unit === "ms" ? 1 : 0)} ${row.unit}`;
  };
  const share = (row: Row, name: Name) => {
    const [ours, other] = [row.values.storaged, row.values[name]];
    return ours === undefined || other === undefined ? "" : `${(ours / other).toFixed(2)}`;
  };
  const table = [
    ["", ...names, "of files", "of http"],
    ...rows.map((row) => [
      row.what,
      ...names.map((name) => shown(row, name)),
      share(row, "files"),
      share(row, "http"),
    ]),
  ];
  const widths = table[0]!.map((_, column) => Math.max(...table.map((line) => line[column]!.length)));
  for (const line of table)
    console.log(
      line
        .map((text, column) => text.padEnd(widths[column]!))
        .join("  ")
        .trimEnd(),
    );
  console.log();
  return rows.flatMap(({ what, unit, values: { storaged, radosgw }, promise }) => {
    if (storaged === undefined || radosgw === undefined) return [];
    const ratio = unit === "ms" ? radosgw / storaged : storaged / radosgw;
    return [atLeast(`${what}, against radosgw`, ratio, promise, "times")];
  });
}

/** What the storage process needs, and whether a page takes longer the further back it is. */
async function measureMemory(client: Client, side: Side & { pid: number }): Promise<Result[]> {
  const sizeBytes = Number(options.gib) * 1024 ** 3;
  const results: Result[] = [];
  const least = await residentMB(side.pid);
  console.log(`at the start: ${least.now.toFixed(0)} MB`);
  for (const kind of ["stream put", "stream get"] as const) {
    const ms = await client.run(side, { kind, key: "huge", sizeBytes });
    const { most } = await residentMB(side.pid);
    console.log(`${kind}: ${(sizeBytes / 1e6 / (ms / 1000)).toFixed(0)} MB/s`);
    results.push(atMost(`resident during a ${kind} of ${options.gib} GiB`, most, 150, "MB"));
  }
  const count = Number(options.keys);
  const batch = 20_000;
  const prefix = (at: number) => `many/${String(at / batch).padStart(4, "0")}/`;
  const start = performance.now();
  for (let at = 0; at < count; at += batch) {
    const filling = {
      count: Math.min(batch, count - at),
      concurrency: 16,
      sizeBytes: 16,
      prefix: prefix(at),
    };
    await client.run(side, { kind: "put", ...filling });
  }
  const seconds = (performance.now() - start) / 1000;
  const filled = await residentMB(side.pid);
  console.log(`${count} keys put in ${seconds.toFixed(0)} s; ${filled.now.toFixed(0)} MB`);
  results.push(atMost(`resident while ${count} keys are put`, filled.most, 300, "MB"));
  const page = { kind: "list", pages: 5, prefix: "many/", limit: 1000 } as const;
  const last = Math.floor((count - 1) / batch) * batch;
  const first = await client.run(side, page);
  const far = await client.run(side, { ...page, startAfter: prefix(last) });
  console.log(`a page of 1,000 at the beginning ${first.toFixed(1)} ms, at the end ${far.toFixed(1)} ms`);
  results.push(atMost("a page at the end against one at the beginning", far / first, 1.5, "times"));
  const { most } = await residentMB(side.pid);
  results.push(atMost("resident while they are listed", most, 300, "MB"));
  return results;
}

if (process.env.SKEP_BENCH_SOURCE === undefined) {
  const build = join(resolve(import.meta.dirname, ".."), "scripts/build.ts");
  await timed([process.execPath, "--conditions=skep-source", build, "--cli"], process.env);
}
const base = await mkdtemp(join(options.directory, "skep-bench-"));
await using opened = new AsyncDisposableStack();
opened.defer(() => rm(base, { recursive: true, force: true }));
const client = opened.use(new Client());
const storaged = opened.use(await startStorage(base));
let results: Result[];
if (options.memory) {
  results = await measureMemory(client, storaged);
} else {
  const sides: Sides = { storaged, http: opened.use(await startPlain(base)) };
  if (options.radosgw) sides.radosgw = opened.use(await startGateway(base));
  results = print(await measure(client, sides, base));
}
printResults(results);
process.exitCode = results.every(({ kept }) => kept) ? 0 : 1;

import { chunkObjectKey } from "./chunk/names.ts";
import type { Environment } from "./environment.ts";
import { type Manifest, mapKeys } from "./manifest.ts";
import type { DurableMap } from "./map/durable-map.ts";
import { hole } from "./map/extent-map.ts";
import { loadMap } from "./map-objects.ts";
import { codeOf, inParallel, listObjects } from "./objects.ts";
import { presentManifest, volumeKey, wordText } from "./open.ts";
import { checkVolumeId, localPaths, manifestKey, snapshotKey, volumePrefix } from "./paths.ts";
import { chunkRef, isDamage } from "./read.ts";
import { readSnapshot } from "./snapshots.ts";
import { blockBytes, type CheckFinding, type CheckReport } from "./types.ts";
import type { WalGap } from "./wal/gaps.ts";
import { inspectWal } from "./wal/open.ts";

const chunksAtOnce = 2;

interface Options {
  signal?: AbortSignal;
  onProgress?: (done: number, total: number) => void;
}

type Range = { offset: number; length: number };

/** What can be reached by one manifest: the volume's, or a snapshot's. */
interface View {
  /** Undefined: the volume as it is. */
  snapshot: string | undefined;
  manifest: Manifest;
  map: DurableMap;
}

/** A chunk of any view, and where its blocks are in which. */
interface Reached {
  slots: { view: View; slot: number }[];
}

/** Reads all that the manifest names, down to each frame's checksum; changes nothing. */
export async function checkVolume(env: Environment, id: string, options: Options = {}): Promise<CheckReport> {
  checkVolumeId(id);
  const { signal, onProgress } = options;
  const { manifest } = await presentManifest(env, id);
  const report: CheckReport = { findings: [], chunks: 0, blocks: 0, bytes: 0 };
  const needed = new Set([manifestKey(id)]);
  const views: View[] = [];
  const key = volumeKey(env, manifest, id);
  const look = async (of: Manifest, snapshot: string | undefined) => {
    for (const mapKey of mapKeys(of)) needed.add(mapKey);
    try {
      const { map } = await loadMap(env, of, key, signal);
      views.push({ snapshot, manifest: of, map });
    } catch (error) {
      if (codeOf(error) !== "VOLUME_DAMAGED") throw error;
      const lost = snapshot === undefined ? [{ offset: 0, length: of.VolumeSize }] : [];
      report.findings.push({
        kind: "map",
        object: objectOf(error, mapKeys(of)),
        why: why(error, snapshot),
        lost,
      });
    }
  };
  await look(manifest, undefined);
  for (const { Id } of manifest.Snapshots) {
    needed.add(snapshotKey(id, Id));
    try {
      await look(await readSnapshot(env, id, Id, signal), Id);
    } catch (error) {
      if (!(codeOf(error) ?? "").startsWith("VOLUME_")) throw error;
      report.findings.push({ kind: "manifest", object: snapshotKey(id, Id), why: why(error, Id), lost: [] });
    }
  }
  const chunks = reachable(views);
  for (const name of chunks.keys()) needed.add(name);
  for (const { map } of views.filter(({ snapshot }) => snapshot === undefined)) {
    for (const slot of map.chunks.slots()) {
      needed.add(chunkObjectKey(chunkRef({ map, key }, slot).name));
    }
  }
  let done = 0;
  await inParallel(chunks, chunksAtOnce, async ([object, reached]) => {
    signal?.throwIfAborted();
    const [{ view, slot }] = reached.slots as [Reached["slots"][number]];
    const ref = chunkRef({ map: view.map, key }, slot);
    report.chunks += 1;
    report.blocks += ref.blocks;
    report.bytes += ref.sizeBytes;
    for (const { ordinal, count, why: what } of await damageOf(env, ref, signal)) {
      report.findings.push(
        finding(object, reached, { ordinal, count, why: what, isAll: count === ref.blocks }),
      );
    }
    done += 1;
    onProgress?.(done, chunks.size);
  });
  if (views.some(({ snapshot }) => snapshot === undefined)) {
    for await (const { key: object } of listObjects(env.store, volumePrefix(id), signal)) {
      if (!needed.has(object)) {
        report.findings.push({
          kind: "orphan",
          object,
          why: "nothing names it; vol gc removes it",
          lost: [],
        });
      }
    }
  }
  report.findings.push(...(await checkWal(env, manifest)));
  return report;
}

/** Each chunk once, with all the slots that say it. */
function reachable(views: readonly View[]): Map<string, Reached> {
  const chunks = new Map<string, Reached>();
  for (const view of views) {
    for (const slot of view.map.chunks.slots()) {
      if (view.map.chunks.live(slot) === 0) continue;
      const name = chunkObjectKey(chunkRef({ map: view.map, key: null }, slot).name);
      const reached = chunks.get(name);
      if (reached === undefined) chunks.set(name, { slots: [{ view, slot }] });
      else reached.slots.push({ view, slot });
    }
  }
  return chunks;
}

async function damageOf(
  env: Environment,
  ref: ReturnType<typeof chunkRef>,
  signal: AbortSignal | undefined,
): Promise<{ ordinal: number; count: number; why: string }[]> {
  try {
    return await env.reader.verify(ref, signal === undefined ? {} : { signal });
  } catch (error) {
    if (!isDamage(error)) throw error;
    const text = codeOf(error) === "OBJECT_NOT_FOUND" ? "it is not there" : (error as Error).message;
    return [{ ordinal: 0, count: ref.blocks, why: text }];
  }
}

function finding(
  object: string,
  { slots }: Reached,
  damaged: { ordinal: number; count: number; why: string; isAll: boolean },
): CheckFinding {
  const lost: Range[] = [];
  const snapshots: string[] = [];
  for (const { view, slot } of slots) {
    const ranges = lostIn(view, slot, damaged);
    if (view.snapshot === undefined) lost.push(...ranges);
    else if (ranges.length > 0) snapshots.push(`${view.snapshot} loses ${ranges.map(rangeText).join(", ")}`);
  }
  const kind = damaged.isAll ? "chunk" : "block";
  return { kind, object, why: [damaged.why, ...snapshots].join("; "), lost };
}

const rangeText = ({ offset, length }: Range) => `${length} bytes at ${offset}`;

function lostIn(
  { map }: View,
  slot: number,
  { ordinal, count }: { ordinal: number; count: number },
): Range[] {
  const ranges: Range[] = [];
  map.extents.forEach((block, blocks, source, position) => {
    if (source === hole || source !== slot) return;
    const first = Math.max(position, ordinal);
    const end = Math.min(position + blocks, ordinal + count);
    if (end <= first) return;
    const offset = (block + first - position) * blockBytes;
    const length = (end - first) * blockBytes;
    const last = ranges.at(-1);
    if (last !== undefined && last.offset + last.length === offset) last.length += length;
    else ranges.push({ offset, length });
  });
  return ranges;
}

/** What this host has of the volume and the store has not. */
async function checkWal(env: Environment, manifest: Manifest): Promise<CheckFinding[]> {
  const findings: CheckFinding[] = [];
  const { wal } = localPaths(env.directory, manifest.VolumeName);
  for (const { header, path, sizeBytes, wholeBytes, gaps } of await inspectWal({
    files: env.files,
    directory: wal,
    sequence: BigInt(manifest.SeqNum),
  })) {
    const word = header === null ? undefined : wordText(header.word);
    if (header === null) {
      findings.push({ kind: "wal", object: path, why: "it was cut off before anything was in it", lost: [] });
    } else if (word !== manifest.Owner?.Wal) {
      const text = `it is of epoch ${header.epoch}, and another host has had the volume since: it is not replayed`;
      findings.push({ kind: "wal", object: path, why: text, lost: [] });
    } else if (gaps.length > 0) {
      findings.push(...gaps.map((gap) => gapFinding(gap)));
    } else if (wholeBytes < sizeBytes) {
      const text = `its last ${sizeBytes - wholeBytes} bytes are of a write that did not end`;
      findings.push({ kind: "wal", object: path, why: text, lost: [] });
    }
  }
  return findings;
}

/** Of blocks whose newer content is gone the store still has the older one. */
function gapFinding({ path, position, slots, wasSynced, blocks }: WalGap): CheckFinding {
  const what = wasSynced
    ? "that were flushed are damaged or missing"
    : "were never flushed, and a power loss took them";
  const lost = blocks.map(({ block, count }) => ({ offset: block * blockBytes, length: count * blockBytes }));
  return { kind: "wal", object: path, why: `${slots} writes before byte ${position} ${what}`, lost };
}

/** A damaged map's message names the object. */
function objectOf(error: unknown, keys: readonly string[]): string {
  return keys.find((key) => (error as Error).message.includes(key)) ?? keys[0] ?? "";
}

function why(error: unknown, snapshot: string | undefined): string {
  const { message } = error as Error;
  return snapshot === undefined ? message : `${message}; snapshot ${snapshot} cannot be read`;
}

import { hash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { exists, writeFileAtomic } from "@skep/base";
import { digestOfArgv } from "./compat.ts";
import { largestDevice } from "./device.ts";
import { fail } from "./errors.ts";
import { indexBytes, isMemorySize, largestMemory } from "./index-codec.ts";
import { statePaths } from "./paths.ts";
import {
  atLeastZero,
  canonicalJson,
  isObject,
  json,
  line,
  listOf,
  oneOf,
  optional,
  pattern,
  record,
  type Shape,
  whole,
} from "./shape.ts";
import { checkStoredFile, damaged, stateOf } from "./stored.ts";
import {
  chunkBytes,
  type HostRecord,
  type JsonValue,
  type MemoryRecord,
  type StateManifest,
} from "./types.ts";

const version = 1;
const largestManifest = 1_048_576;
const sha256 = pattern(/^[0-9a-f]{64}$/);

export const machineShape: Shape = (value, at) => {
  if (!isObject(value)) return `${at} is no object`;
  const id = pattern(/^[0-9a-f]{8}-[0-9a-f-]{27}$/);
  const name = pattern(/^[a-z0-9](?:[a-z0-9-]{0,46}[a-z0-9])?$/);
  return id(value.id, `${at}.id`) ?? name(value.name, `${at}.name`) ?? json(16)(value, at);
};

export const hostShape = record({
  qemu: line(64),
  machineType: line(64),
  arch: oneOf("x86_64", "aarch64"),
  accelerator: oneOf("tcg", "kvm", "hvf"),
  cpuModel: line(4096),
  cpuFeatures: listOf(line(128), 4096),
  devices: record({ sha256, argv: listOf(line(8192), 4096) }),
});

const manifestShape = record({
  version: oneOf(version),
  id: pattern(/^st-[0-9a-f]{17}$/),
  kind: oneOf("suspend", "snapshot", "template"),
  createdAt: pattern(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?Z$/),
  machine: machineShape,
  host: hostShape,
  memory: record({
    bytes: whole(1, largestMemory),
    chunkBytes: oneOf(chunkBytes),
    form: oneOf("full"),
    codec: oneOf("zstd"),
    chunks: whole(0, largestMemory / chunkBytes),
    populatedBytes: whole(0, largestMemory),
    index: record({ bytes: whole(1, indexBytes(largestMemory / chunkBytes)), sha256 }),
    packBytes: whole(0, largestMemory),
  }),
  device: record({
    form: oneOf("migration", "xen"),
    codec: oneOf("zstd"),
    bytes: whole(1, largestDevice),
    storedBytes: whole(1, 2 * largestDevice),
    sha256,
  }),
  pauseMs: atLeastZero,
  slicesFrozen: optional(oneOf(true)),
});

/** What no field alone tells. */
function contradiction({ host, memory }: StateManifest): string | undefined {
  return contradictionInHost(host) ?? contradictionInMemory(memory);
}

function contradictionInHost({ cpuFeatures, devices }: HostRecord): string | undefined {
  const isSorted = cpuFeatures.every((one, index) => index === 0 || (cpuFeatures[index - 1] as string) < one);
  if (!isSorted) return "host.cpuFeatures is not sorted, or has one twice";
  return digestOfArgv(devices.argv) === devices.sha256
    ? undefined
    : "host.devices.sha256 is not that of its argv";
}

function contradictionInMemory(memory: MemoryRecord): string | undefined {
  const { bytes, chunks, populatedBytes, packBytes, index } = memory;
  if (!isMemorySize(bytes)) return "memory.bytes is no size of memory";
  if (index.bytes !== indexBytes(chunks)) return "memory.index.bytes does not fit memory.chunks";
  const isPopulated = populatedBytes <= Math.min(bytes, chunks * chunkBytes);
  if (!isPopulated || (chunks > 0 && populatedBytes <= (chunks - 1) * chunkBytes)) {
    return "memory.populatedBytes does not fit memory.chunks";
  }
  if (packBytes > populatedBytes || packBytes < chunks) return "memory.packBytes does not fit memory.chunks";
  return undefined;
}

function whyNot(value: unknown): string | undefined {
  return (
    manifestShape(value, "manifest")?.replace(/^manifest\./, "") ?? contradiction(value as StateManifest)
  );
}

/** The sha256 by which other records name a state: of its manifest without the digest in it. */
function digestOf(manifest: StateManifest): string {
  return hash("sha256", canonicalJson(manifest as unknown as JsonValue), "hex");
}

function textOf(manifest: StateManifest): string {
  return `${canonicalJson({ ...(manifest as unknown as { [key: string]: JsonValue }), digest: digestOf(manifest) })}\n`;
}

/**
 * Writes `manifest.json` into a state's temporary directory and gives its digest. STATE_UNWRITABLE where
 * a field is not as FORMAT.md has it.
 */
export async function writeManifest(directory: string, manifest: StateManifest): Promise<string> {
  const text = (why: string | undefined) => {
    if (why !== undefined) throw fail("STATE_UNWRITABLE", { state: stateOf(directory), why });
    return textOf(manifest);
  };
  const written = text(whyNot(manifest) ?? notIts(directory, manifest));
  if (Buffer.byteLength(written) > largestManifest)
    text(`its manifest is larger than ${largestManifest} bytes`);
  await writeFileAtomic(statePaths(directory).manifest, written);
  return digestOf(manifest);
}

function notIts(directory: string, { id }: StateManifest): string | undefined {
  return id === stateOf(directory) ? undefined : `it is the manifest of state ${id}`;
}

/**
 * Reads and checks `manifest.json`. `digest` is the sha256 by which other records name this state.
 * STATE_NOT_FOUND, STATE_VERSION, STATE_DAMAGED.
 */
export async function readManifest(directory: string): Promise<{ manifest: StateManifest; digest: string }> {
  const state = stateOf(directory);
  if (!(await exists(directory))) throw fail("STATE_NOT_FOUND", { state });
  const path = statePaths(directory).manifest;
  await checkStoredFile(directory, path, { atMost: largestManifest });
  const refuse = (why: string) => damaged(directory, "manifest.json", why);
  const bytes = await readFile(path);
  let value: unknown;
  try {
    value = JSON.parse(bytes.toString("utf8"));
  } catch {
    throw refuse("it is not JSON");
  }
  if (!isObject(value)) throw refuse("it is no object");
  if (Number.isSafeInteger(value.version) && value.version !== version) {
    throw fail("STATE_VERSION", { state, version: value.version, known: version });
  }
  const { digest, ...rest } = value;
  const why = whyNot(rest) ?? notIts(directory, rest as unknown as StateManifest);
  if (why !== undefined) throw refuse(why);
  const manifest = rest as unknown as StateManifest;
  // Byte for byte: one state has one manifest, so what is written twice or otherwise is not ours.
  if (digest !== digestOf(manifest) || !bytes.equals(Buffer.from(textOf(manifest))))
    throw refuse("its digest is not its own");
  return { manifest, digest: digestOf(manifest) };
}

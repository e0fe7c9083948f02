import { createHash } from "node:crypto";
import { cp, type FileHandle, mkdtemp, open, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { beginState, commitState } from "./commit.ts";
import { devicesOf } from "./compat.ts";
import { packDevice } from "./device.ts";
import { writeManifest } from "./manifest.ts";
import { packMemory } from "./pack.ts";
import { stateDirectory, statePaths } from "./paths.ts";
import { chunkBytes, type HostRecord, type StateManifest } from "./types.ts";

/** A test, or what stands for a whole suite. */
export interface Cleanup {
  after(clean: () => Promise<void>): void;
}

/** A directory of a test's own; on tmpfs, where `parent` is /dev/shm. */
export async function ownDirectory(test: Cleanup, parent = "/tmp"): Promise<string> {
  const directory = await mkdtemp(join(parent, "skep-arks-"));
  test.after(() => rm(directory, { recursive: true, force: true }));
  return directory;
}

/** Bytes that are the same for the same seed; half of them compress. */
export function seededBytes(seed: string, length: number): Buffer {
  const bytes = Buffer.alloc(length);
  for (let at = 0; at < length; at += 64) {
    createHash("sha256").update(`${seed} ${at}`).digest().copy(bytes, at);
    if (at % 8192 >= 4096) bytes.fill(at % 251, at, Math.min(at + 64, length));
  }
  return bytes;
}

/** A sparse memory file that holds the given bytes at the given places. */
export async function makeMemory(
  path: string,
  memoryBytes: number,
  contents: readonly { offset: number; bytes: Uint8Array }[],
): Promise<void> {
  const file = await open(path, "w", 0o600);
  try {
    await file.truncate(memoryBytes);
    for (const { offset, bytes } of contents) await writeAt(file, bytes, offset);
  } finally {
    await file.close();
  }
}

async function writeAt(file: FileHandle, bytes: Uint8Array, offset: number): Promise<void> {
  await file.write(bytes, 0, bytes.length, offset);
}

/** Memory of 64 chunks and a half, of which 7 hold something: compressible, random, full, one page, both ends. */
export const smallMemory = {
  bytes: 64 * chunkBytes + 512 * 1024,
  contents: () => [
    { offset: 0, bytes: seededBytes("start", 5000) },
    { offset: 3 * chunkBytes - 4096, bytes: seededBytes("across", 8192) },
    { offset: 9 * chunkBytes, bytes: Buffer.concat(Array.from({ length: 2 ** 15 }, (_, at) => digest(at))) },
    { offset: 20 * chunkBytes, bytes: Buffer.alloc(chunkBytes, 0x41) },
    { offset: 30 * chunkBytes + 12_288, bytes: Buffer.from([1]) },
    { offset: 64 * chunkBytes + 508 * 1024, bytes: seededBytes("end", 4096) },
  ],
  chunks: [0, 2, 3, 9, 20, 30, 64],
};

function digest(seed: number): Buffer {
  return createHash("sha256").update(String(seed)).digest();
}

export function hostRecord(): HostRecord {
  return {
    qemu: "7.2.22",
    machineType: "pc-q35-7.2",
    arch: "x86_64",
    accelerator: "tcg",
    cpuModel: "max",
    cpuFeatures: ["avx", "avx2", "sse4.2"],
    devices: devicesOf(["-machine", "pc-q35-7.2,vmport=off", "-device", "virtio-rng-pci,addr=0x4"]),
  };
}

export interface MadeState {
  home: string;
  /** Of the whole state. */
  directory: string;
  manifest: StateManifest;
  /** The memory it was made from. */
  ramPath: string;
}

/** A whole state of `smallMemory`. `change` sees the manifest before it is written. */
export async function makeState(
  test: Cleanup,
  change: (manifest: StateManifest) => void = () => {},
): Promise<MadeState> {
  const home = await ownDirectory(test);
  const ramPath = join(home, "ram");
  await makeMemory(ramPath, smallMemory.bytes, smallMemory.contents());
  const { id, directory } = await beginState(home);
  const manifest = await fillState(id, directory, ramPath);
  change(manifest);
  await writeManifest(directory, manifest);
  return { home, directory: await commitState(home, id), manifest, ramPath };
}

/** A state of its own for a test that changes it. */
export async function copyState(test: Cleanup, state: MadeState): Promise<MadeState> {
  const home = await ownDirectory(test);
  const directory = stateDirectory(home, state.manifest.id);
  await cp(state.directory, directory, { recursive: true });
  return { ...state, home, directory, manifest: structuredClone(state.manifest) };
}

/** Packs memory and devices into a temporary directory; its manifest is not written yet. */
export async function fillState(id: string, directory: string, ramPath: string): Promise<StateManifest> {
  const memory = await packMemory({ ramPath, memoryBytes: smallMemory.bytes, directory });
  const device = await packDevice({
    from: seededBytes("device", 700_000),
    form: "migration",
    directory,
  });
  return {
    version: 1,
    id,
    kind: "suspend",
    createdAt: "2026-11-21T11:00:00.000Z",
    machine: { version: 1, id: "5f0c1d2e-0000-4000-8000-123456789abc", name: "web", ports: [] },
    host: hostRecord(),
    memory,
    device,
    pauseMs: 21.5,
  };
}

/** Changes a stored file in place. */
export async function damageFile(
  directory: string,
  name: keyof ReturnType<typeof statePaths>,
  change: (bytes: Buffer) => Uint8Array,
): Promise<void> {
  const path = statePaths(directory)[name];
  await writeFile(path, change(await readFile(path)));
}

/** What a snapshot keeps of a machine, but for its disks. */
export const plainMachine = {
  id: "5f0c1d2e-0000-4000-8000-123456789abc",
  cpus: 1,
  memoryMiB: 128,
  firmware: "bios",
  machineType: "pc-q35-7.2",
  kernelArguments: "",
  cdrom: null,
} as const;

import type { Arch } from "@skep/api/schemas";
import type { IdleThreads } from "./memory-threads.ts";

/** Bytes of guest memory in one chunk. The last chunk of a memory may have fewer. */
export const chunkBytes = 1_048_576;

export type JsonValue = null | boolean | number | string | JsonValue[] | { [key: string]: JsonValue };

/** What a saved state was made with, and fits to. QEMU itself checks hardly any of it. */
export interface HostRecord {
  /** As QEMU tells it: `7.2.22`. */
  qemu: string;
  /** Versioned: `pc-q35-7.2`. */
  machineType: string;
  arch: Arch;
  /** `tcg`, `kvm` or `hvf`. */
  accelerator: string;
  /** As given to `-cpu`: `max`. */
  cpuModel: string;
  /** All that the guest was shown, sorted, each once. */
  cpuFeatures: string[];
  devices: DevicesRecord;
}

/** What QEMU was started with, less what may differ from host to host (paths, ports, MAC, ids). */
export interface DevicesRecord {
  /** Of the arguments, as `devicesOf` computes it. */
  sha256: string;
  /** Kept to say what the difference is. */
  argv: string[];
}

/** Guest memory as `memory.idx` and `memory.pack` hold it. */
export interface MemoryRecord {
  /** Size of the guest's memory. */
  bytes: number;
  chunkBytes: typeof chunkBytes;
  /** `full`: every chunk that is not zero is in this state's own pack. */
  form: "full";
  codec: "zstd";
  /** Chunks that are stored: those that are not zero. */
  chunks: number;
  /** Bytes of guest memory in those chunks. */
  populatedBytes: number;
  index: { bytes: number; sha256: string };
  packBytes: number;
}

/**
 * How QEMU wrote its devices: `migration` is a migration stream with x-ignore-shared, which holds no guest
 * memory; `xen` is what it writes for Xen, the devices alone, whatever its memory is made of.
 */
export type DeviceForm = "migration" | "xen";

/** The device state as `device.zst` holds it. */
export interface DeviceRecord {
  form: DeviceForm;
  codec: "zstd";
  /** Of the stream itself. */
  bytes: number;
  /** Of `device.zst`. */
  storedBytes: number;
  /** Of the stored bytes, as of every digest of a state. */
  sha256: string;
}

/** The content of `manifest.json`, which also holds the digest of all this (FORMAT.md). */
export interface StateManifest {
  version: 1;
  /** `st-` and 17 hexadecimal digits; the name of the state's directory. */
  id: string;
  /** `suspend`: given up once the machine goes on. `snapshot`, `template`: it stays. */
  kind: "suspend" | "snapshot" | "template";
  /** ISO 8601, UTC. */
  createdAt: string;
  /** What `machine.json` said at that time. */
  machine: SavedMachine;
  host: HostRecord;
  memory: MemoryRecord;
  device: DeviceRecord;
  /** How long the guest had stood still when its device state was saved; of a snapshot, until it went on. */
  pauseMs: number;
  /** There, where the guest's helper had frozen its services: it wakes up frozen. */
  slicesFrozen?: true;
}

/** `machine.json` as it was. */
export type SavedMachine = { id: string; name: string; [key: string]: JsonValue };

/** One stored chunk. Stored as it is when `length` is that of the chunk itself, else a zstd frame. */
export interface MemoryRow {
  /** Its place in memory, in units of `chunkBytes`. */
  chunk: number;
  /** Where its stored bytes begin in `memory.pack`. */
  offset: number;
  /** How many stored bytes it has. */
  length: number;
  /** Of the stored bytes; 32 bytes. */
  sha256: Uint8Array;
}

export interface MemoryIndex {
  memoryBytes: number;
  packBytes: number;
  /** By ascending chunk; their ranges follow each other without a gap. */
  rows: MemoryRow[];
}

/** Something about a state that is not as it was written. */
export interface Damage {
  /** A file, and where it can be told the part of it: `memory.pack, chunk 17 (bytes 4096 to 8192)`. */
  object: string;
  why: string;
}

/** What can be stopped and watched. */
export interface Transfer {
  /** Threads that wait for such work; without them some are started. */
  idle?: IdleThreads;
  signal?: AbortSignal;
  /** Of the memory's bytes that are touched, how many are done. */
  onProgress?: (doneBytes: number, totalBytes: number) => void;
}

import { hash } from "node:crypto";
import { open, rm, writeFile } from "node:fs/promises";
import { promisify } from "node:util";
import { constants, zstdCompress, zstdDecompress } from "node:zlib";
import { Undo } from "@skep/base";
import { fail } from "./errors.ts";
import { statePaths } from "./paths.ts";
import { damaged, readStored, stateOf } from "./stored.ts";
import type { DeviceRecord, StateManifest } from "./types.ts";

/** A machine's devices take about 1 MiB. */
export const largestDevice = 64 * 1_048_576;

const compress = promisify(zstdCompress);
const decompress = promisify(zstdDecompress);

/**
 * Stores the device state that QEMU sends, compressed, and has it on the disk when it returns; on
 * failure no file is left. STATE_UNWRITABLE where it is larger than any could be.
 */
export async function packDevice(options: {
  /** A migration stream, to its end. */
  from: AsyncIterable<Uint8Array> | Uint8Array;
  directory: string;
  signal?: AbortSignal;
}): Promise<DeviceRecord> {
  const { from, directory, signal } = options;
  const bytes = from instanceof Uint8Array ? from : await collect(from, directory, signal);
  if (bytes.length === 0) {
    throw fail("STATE_UNWRITABLE", { state: stateOf(directory), why: "QEMU sent no device state" });
  }
  const stored = await compress(bytes, { params: { [constants.ZSTD_c_compressionLevel]: 1 } });
  signal?.throwIfAborted();
  const path = statePaths(directory).device;
  await using undo = new Undo();
  const file = await open(path, "wx", 0o600);
  undo.push(() => rm(path, { force: true }));
  try {
    await writeFile(file, stored);
    await file.datasync();
  } finally {
    await file.close();
  }
  undo.keep();
  const sha256 = hash("sha256", stored, "hex");
  return { form: "migration", codec: "zstd", bytes: bytes.length, storedBytes: stored.length, sha256 };
}

async function collect(
  from: AsyncIterable<Uint8Array>,
  directory: string,
  signal: AbortSignal | undefined,
): Promise<Buffer> {
  const parts: Uint8Array[] = [];
  let length = 0;
  for await (const part of from) {
    signal?.throwIfAborted();
    length += part.length;
    if (length > largestDevice) {
      const why = `QEMU sends more than ${largestDevice} bytes of device state`;
      throw fail("STATE_UNWRITABLE", { state: stateOf(directory), why });
    }
    parts.push(part);
  }
  return Buffer.concat(parts);
}

/** The migration stream, verified. STATE_DAMAGED. */
export async function unpackDevice(options: {
  directory: string;
  manifest: StateManifest;
}): Promise<Uint8Array> {
  const { directory, manifest } = options;
  const { bytes, storedBytes, sha256 } = manifest.device;
  const stored = await readStored(directory, statePaths(directory).device, { bytes: storedBytes, sha256 });
  const refuse = (why: string) => damaged(directory, "device.zst", why);
  const device = await decompress(stored, { maxOutputLength: bytes }).catch((error: Error) => {
    throw refuse(`it does not decompress to ${bytes} bytes (${error.message})`);
  });
  if (device.length !== bytes) throw refuse(`it decompresses to ${device.length} bytes instead of ${bytes}`);
  return device;
}

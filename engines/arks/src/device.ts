import { hash } from "node:crypto";
import { open, rm, writeFile } from "node:fs/promises";
import { promisify } from "node:util";
import { constants, zstdCompress, zstdDecompress } from "node:zlib";
import { Undo } from "@skep/base";
import { fail } from "./errors.ts";
import { statePaths } from "./paths.ts";
import { damaged, readStored, stateOf } from "./stored.ts";
import type { DeviceForm, DeviceRecord, StateManifest } from "./types.ts";

/** A machine's devices take about 1 MiB. */
export const largestDevice = 64 * 1_048_576;

const compress = promisify(zstdCompress);
const decompress = promisify(zstdDecompress);

/**
 * Stores a device state, compressed, and has it on the disk when it returns; on
 * failure no file is left. STATE_UNWRITABLE where it is larger than any could be.
 */
export async function packDevice(options: {
  /** What QEMU wrote, and how. */
  from: Uint8Array;
  form: DeviceForm;
  directory: string;
  signal?: AbortSignal;
}): Promise<DeviceRecord> {
  const { from, form, directory, signal } = options;
  const refuse = (why: string) => fail("STATE_UNWRITABLE", { state: stateOf(directory), why });
  if (from.length === 0) throw refuse("QEMU wrote no device state");
  if (from.length > largestDevice) throw refuse("its device state is larger than any can be");
  const stored = await compress(from, { params: { [constants.ZSTD_c_compressionLevel]: 1 } });
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
  return { form, codec: "zstd", bytes: from.length, storedBytes: stored.length, sha256 };
}

/** The whole of what QEMU sends; it is the guest's word how much that is. */
export async function collectDevice(
  from: AsyncIterable<Uint8Array>,
  signal: AbortSignal | undefined,
): Promise<Buffer> {
  const parts: Uint8Array[] = [];
  let length = 0;
  for await (const part of from) {
    signal?.throwIfAborted();
    length += part.length;
    if (length > largestDevice) throw new Error(`QEMU sends more than ${largestDevice} bytes of devices`);
    parts.push(part);
  }
  return Buffer.concat(parts);
}

/** What QEMU wrote, verified. STATE_DAMAGED. */
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

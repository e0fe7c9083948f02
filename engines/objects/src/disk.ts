import * as fs from "node:fs";
import * as fsp from "node:fs/promises";
import type { AsyncFile, Files, SyncFile } from "./files.ts";

export type { AsyncFile, Files, SyncFile } from "./files.ts";

/** The host's file system. */
export const disk: Files = {
  openSync: (path, mode) => {
    const flags = mode === "read" ? fs.constants.O_RDONLY : fs.constants.O_RDWR | fs.constants.O_CREAT;
    return syncFile(fs.openSync(path, flags, 0o600));
  },
  open: async (path, mode) => {
    const flags = { read: "r", write: "r+", create: "wx+" }[mode];
    return asyncFile(await fsp.open(path, flags, 0o600));
  },
  readdirSync: (path) => fs.readdirSync(path),
  readdir: (path) => fsp.readdir(path),
  mkdirSync: (path) => void fs.mkdirSync(path, { recursive: true, mode: 0o700 }),
  mkdir: async (path) => void (await fsp.mkdir(path, { recursive: true, mode: 0o700 })),
  unlinkSync: (path) => fs.unlinkSync(path),
  unlink: (path) => fsp.unlink(path),
  rename: (from, to) => fsp.rename(from, to),
  syncDirectorySync: (path) => {
    const descriptor = fs.openSync(path, "r");
    try {
      fs.fsyncSync(descriptor);
    } finally {
      fs.closeSync(descriptor);
    }
  },
  syncDirectory: async (path) => {
    await using handle = await fsp.open(path, "r");
    await handle.sync();
  },
  freeBytesSync: (path) => {
    const { bavail, bsize } = fs.statfsSync(path);
    return bavail * bsize;
  },
  totalBytesSync: (path) => {
    const { blocks, bsize } = fs.statfsSync(path);
    return blocks * bsize;
  },
};

function syncFile(descriptor: number): SyncFile {
  return {
    read: (buffer, position) => readSync(descriptor, buffer, position),
    write: (buffers, position) => writeSync(descriptor, buffers, position),
    datasync: () => fs.fdatasyncSync(descriptor),
    truncate: (sizeBytes) => fs.ftruncateSync(descriptor, sizeBytes),
    size: () => fs.fstatSync(descriptor).size,
    close: () => fs.closeSync(descriptor),
  };
}

function readSync(descriptor: number, buffer: Uint8Array, position: number): number {
  let done = 0;
  while (done < buffer.length) {
    const count = fs.readSync(descriptor, buffer, done, buffer.length - done, position + done);
    if (count === 0) break;
    done += count;
  }
  return done;
}

function writeSync(descriptor: number, buffers: readonly Uint8Array[], position: number): void {
  const total = lengthOf(buffers);
  const [only] = buffers;
  let done =
    buffers.length === 1 && only !== undefined
      ? fs.writeSync(descriptor, only, 0, only.length, position)
      : fs.writevSync(descriptor, buffers, position);
  // A short write is rare (a full disk, a file size limit): then the rest in one piece says why.
  while (done < total) {
    const rest = Buffer.concat(buffers).subarray(done);
    done += fs.writeSync(descriptor, rest, 0, rest.length, position + done);
  }
}

function asyncFile(handle: fsp.FileHandle): AsyncFile {
  return {
    read: async (buffer, position) => {
      let done = 0;
      while (done < buffer.length) {
        const { bytesRead } = await handle.read(buffer, done, buffer.length - done, position + done);
        if (bytesRead === 0) break;
        done += bytesRead;
      }
      return done;
    },
    write: async (buffers, position) => {
      const total = lengthOf(buffers);
      let done = (await handle.writev(buffers, position)).bytesWritten;
      while (done < total) {
        const rest = Buffer.concat(buffers).subarray(done);
        done += (await handle.write(rest, 0, rest.length, position + done)).bytesWritten;
      }
    },
    readSync: (buffer, position) => readSync(handle.fd, buffer, position),
    writeSync: (buffers, position) => writeSync(handle.fd, buffers, position),
    datasync: () => handle.datasync(),
    truncate: (sizeBytes) => handle.truncate(sizeBytes),
    size: async () => (await handle.stat()).size,
    close: () => handle.close(),
  };
}

export function lengthOf(buffers: readonly Uint8Array[]): number {
  let total = 0;
  for (const buffer of buffers) total += buffer.length;
  return total;
}

import { once } from "node:events";
import type { Stats } from "node:fs";
import { lstat, open, readdir, readlink } from "node:fs/promises";
import { join } from "node:path";
import { type Header, type Pack, pack as tarPack } from "tar-stream";
import { fail } from "../errors.ts";

export interface PackSource {
  /** A file or directory here. */
  path: string;
  /** Its name in the stream; "" puts a directory's content at the top. */
  name: string;
}

export interface PackOptions {
  onBytes?: (count: number) => void;
  onLeftOut?: (path: string, why: string) => void;
  signal?: AbortSignal;
}

interface Packing extends PackOptions {
  /** Nobody reads the stream any more. */
  closed: Promise<void>;
}

/** Streams files as a tar: files, directories and symbolic links, with modes and times, owner 0. */
export function packTar(sources: readonly PackSource[], options: PackOptions = {}): Pack {
  const pack = tarPack();
  const closed = new Promise<void>((resolve) => pack.once("close", resolve));
  const work = async () => {
    for (const source of sources) await addPath(pack, source.path, source.name, { ...options, closed });
    pack.finalize();
  };
  work().catch((error: Error) => pack.destroy(error));
  return pack;
}

async function addPath(pack: Pack, path: string, name: string, options: Packing): Promise<void> {
  options.signal?.throwIfAborted();
  const info = await lstat(path);
  if (info.isDirectory()) {
    if (name !== "") await addEntry(pack, { ...headers(info), name: `${name}/`, type: "directory" });
    for (const child of (await readdir(path)).sort()) {
      await addPath(pack, join(path, child), name === "" ? child : `${name}/${child}`, options);
    }
  } else if (info.isSymbolicLink()) {
    await addEntry(pack, { ...headers(info), name, type: "symlink", linkname: await readlink(path) });
  } else if (info.isFile()) {
    await addFile(pack, path, name, info, options);
  } else {
    options.onLeftOut?.(path, "it is a device, a pipe or a socket");
  }
}

function headers(info: Stats): Partial<Header> {
  return { mode: info.mode & 0o7777, mtime: info.mtime, uid: 0, gid: 0 };
}

function addEntry(pack: Pack, header: Partial<Header> & { name: string }): Promise<void> {
  return new Promise((resolve, reject) => {
    pack.entry(header, (error) => (error ? reject(error) : resolve()));
  });
}

async function addFile(pack: Pack, path: string, name: string, info: Stats, options: Packing): Promise<void> {
  await using file = await open(path, "r");
  const done = Promise.withResolvers<void>();
  done.promise.catch(() => {});
  const entry = pack.entry({ ...headers(info), name, type: "file", size: info.size }, (error) =>
    error ? done.reject(error) : done.resolve(),
  );
  let left = info.size;
  // A file that grows meanwhile is cut at the size that was announced.
  while (left > 0) {
    options.signal?.throwIfAborted();
    const { bytesRead, buffer } = await file.read(Buffer.allocUnsafe(Math.min(left, 256 * 1024)));
    if (bytesRead === 0)
      throw fail("COPY_TARGET", { path, why: "became shorter while it was copied", hint: "copy it again" });
    left -= bytesRead;
    if (!entry.write(buffer.subarray(0, bytesRead))) {
      await Promise.race([once(entry, "drain"), options.closed]);
      if (pack.destroyed) throw new Error("the stream was closed");
    }
    options.onBytes?.(bytesRead);
  }
  entry.end(null);
  await done.promise;
}

/** Bytes of all files below the sources, for the progress bar. */
export async function sizeOf(path: string): Promise<number> {
  const info = await lstat(path);
  if (!info.isDirectory()) return info.isFile() ? info.size : 0;
  let total = 0;
  for (const child of await readdir(path)) total += await sizeOf(join(path, child));
  return total;
}

import { mkdtemp, open, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import type { Context } from "../context.ts";
import { usage } from "../errors.ts";

export interface ImportedFile extends AsyncDisposable {
  path: string;
}

const blockBytes = 64 * 1024;
const zeroes = Buffer.alloc(blockBytes);

/** The file to import, on skepd's host; standard input is put into one there, and taken away afterwards. */
export async function importedFile(context: Context, file: string): Promise<ImportedFile> {
  if (file !== "-") {
    return { path: context.host === undefined ? resolve(file) : file, async [Symbol.asyncDispose]() {} };
  }
  if (context.host !== undefined)
    throw usage("standard input cannot go to another host", "copy the disk there, and name its path");
  const directory = await mkdtemp(join(tmpdir(), "skep-import-"));
  const remove = () => rm(directory, { recursive: true, force: true });
  const path = join(directory, "disk");
  try {
    await writeSparse(path, process.stdin);
  } catch (error) {
    await remove();
    throw error;
  }
  return { path, [Symbol.asyncDispose]: remove };
}

/** Blocks of zeroes become holes. */
async function writeSparse(path: string, source: AsyncIterable<Uint8Array>): Promise<void> {
  await using handle = await open(path, "wx", 0o600);
  let position = 0;
  for await (const bytes of source) {
    for (let at = 0; at < bytes.length; ) {
      const block = bytes.subarray(at, at + blockBytes - (position % blockBytes));
      if (!zeroes.subarray(0, block.length).equals(block)) {
        await handle.write(block, 0, block.length, position);
      }
      at += block.length;
      position += block.length;
    }
  }
  await handle.truncate(position);
}

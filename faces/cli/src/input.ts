import { open } from "node:fs/promises";
import { formatSize, isErrno, toSkepError } from "@skep/base";
import { fail } from "./errors.ts";

async function readLimited(
  stream: AsyncIterable<Uint8Array>,
  path: string,
  limitBytes: number,
  hint: string,
): Promise<string> {
  const chunks: Uint8Array[] = [];
  let total = 0;
  for await (const chunk of stream) {
    total += chunk.length;
    if (total > limitBytes) throw fail("INPUT_TOO_LARGE", { path, limit: formatSize(limitBytes), hint });
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString("utf8");
}

/** The text of a file, or of standard input for `-`; never more than `limitBytes` of it. */
export async function readInput(
  path: string,
  limitBytes: number,
  stdin: AsyncIterable<Uint8Array> = process.stdin,
  hint = "give a smaller file",
): Promise<string> {
  if (path === "-") return readLimited(stdin, "standard input", limitBytes, hint);
  try {
    await using handle = await open(path, "r");
    if ((await handle.stat()).isDirectory())
      throw fail("INPUT_UNREADABLE", { path, why: "it is a directory" });
    return await readLimited(handle.createReadStream({ autoClose: false }), path, limitBytes, hint);
  } catch (error) {
    if (isErrno(error, "ENOENT"))
      throw fail("INPUT_UNREADABLE", { path, why: "no such file" }, { cause: error });
    if (isErrno(error, "EACCES"))
      throw fail("INPUT_UNREADABLE", { path, why: "permission denied" }, { cause: error });
    throw toSkepError(error);
  }
}

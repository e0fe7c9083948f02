import { run } from "@skep/base";
import { fail } from "./errors.ts";
import { chunkBytes } from "./types.ts";

/**
 * Numbers of the chunks of a memory file that may hold something, ascending. Node cannot ask for holes
 * (SEEK_DATA) itself; qemu-img can, and reading holes through a mapping would fill them. STATE_MEMORY.
 *
 * @param path absolute
 */
export async function populatedChunks(
  path: string,
  memoryBytes: number,
  signal: AbortSignal | undefined,
): Promise<number[]> {
  const isPopulated = new Uint8Array(Math.ceil(memoryBytes / chunkBytes));
  const refuse = (why: string) => fail("STATE_MEMORY", { path, why });
  let end = 0;
  let problem: Error | undefined;
  // Line by line, as a memory in tatters has hundreds of thousands of ranges.
  const take = (line: string) => {
    const entry = /^\[?(\{.*\})[,\]]?$/.exec(line.trim());
    if (entry === null || problem !== undefined) return;
    try {
      const { start, length, data } = JSON.parse(entry[1] as string) as Record<string, unknown>;
      const isRange = Number.isSafeInteger(length) && (length as number) > 0 && typeof data === "boolean";
      if (start !== end || !isRange) throw refuse(`qemu-img map says of byte ${end}: ${line}`);
      const first = Math.floor(end / chunkBytes);
      end += length as number;
      if (data) isPopulated.fill(1, first, Math.ceil(end / chunkBytes));
    } catch (error) {
      problem = error as Error;
    }
  };
  const args = ["map", "-U", "--output=json", "-f", "raw", path];
  const install = "apt install qemu-utils";
  await run("qemu-img", args, { signal, onStdoutLine: take, install });
  if (problem !== undefined) throw problem;
  // Whatever it leaves out would be lost, silently.
  if (end !== memoryBytes) throw refuse(`qemu-img map tells of ${end} bytes, not ${memoryBytes}`);
  const chunks: number[] = [];
  for (const [chunk, mark] of isPopulated.entries()) if (mark === 1) chunks.push(chunk);
  return chunks;
}

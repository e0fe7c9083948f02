import type { GuestAgent } from "@skep/qmp";

const fileLimitBytes = 256 * 1024;

/** A text file of the guest, by its agent; of one that is too large the beginning. Fails as the agent does. */
export async function readInGuest(agent: GuestAgent, path: string, signal: AbortSignal): Promise<string> {
  const handle = await agent.fileOpen(path, "r", { signal });
  try {
    const pieces: Buffer[] = [];
    for (let bytesRead = 0; bytesRead < fileLimitBytes; ) {
      const { bytes, eof } = await agent.fileRead(handle, 64 * 1024, { signal });
      pieces.push(bytes);
      bytesRead += bytes.length;
      if (eof || bytes.length === 0) break;
    }
    return Buffer.concat(pieces).toString("utf8");
  } finally {
    await agent.fileClose(handle).catch(() => undefined);
  }
}

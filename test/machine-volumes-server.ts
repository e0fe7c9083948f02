/** Serves files over NBD, each on a socket of its own; killed by the tests of machines' volumes. */
import { fdatasyncSync, fstatSync, openSync, readSync, writeSync } from "node:fs";
import { chown } from "node:fs/promises";
import { type BlockDevice, NbdError, NbdServer } from "@skep/nbd";

export interface ServeMessage {
  id: string;
  path: string;
  socket: string;
  owner: { uid: number; gid: number } | null;
  everyWriteFua: boolean;
}
export type Message = { call: number } & (
  | { serve: ServeMessage }
  | { release: string }
  | { reconnect: string }
  | { full: boolean }
);

/** Whether writes fail with ENOSPC. */
let full = false;

class FileDevice implements BlockDevice {
  readonly blockSizes = { minimum: 1, preferred: 4096, maximum: 32 * 1024 * 1024 };
  readonly readOnly = false;
  readonly multiConn = true;
  readonly #file: number;

  constructor(path: string) {
    this.#file = openSync(path, "r+");
  }

  get sizeBytes(): number {
    return fstatSync(this.#file).size;
  }

  read(offset: number, length: number): Buffer {
    const bytes = Buffer.alloc(length);
    readSync(this.#file, bytes, 0, length, offset);
    return bytes;
  }

  write(offset: number, data: Buffer): void {
    if (full) throw new NbdError("ENOSPC", "full");
    writeSync(this.#file, data, 0, data.length, offset);
  }

  flush(): void {
    fdatasyncSync(this.#file);
  }
}

const server = new NbdServer();
const listening = new Set<string>();

async function answer(message: Message): Promise<void> {
  if ("release" in message) return await server.remove(message.release);
  if ("reconnect" in message) return await server.reconnect(message.reconnect);
  if ("full" in message) {
    full = message.full;
    return;
  }
  const { id, path, socket, owner, everyWriteFua } = message.serve;
  server.add({ name: id, device: new FileDevice(path), everyWriteFua });
  if (listening.has(socket)) {
    if (owner !== null) await chown(socket, owner.uid, owner.gid);
    return;
  }
  listening.add(socket);
  await server.listen({ path: socket, only: id, ...(owner === null ? {} : { owner }) });
}

process.on("message", (message: Message) => {
  answer(message).then(
    () => process.send?.({ call: message.call }),
    (error: unknown) => process.send?.({ call: message.call, error: String(error) }),
  );
});
process.on("disconnect", () => process.exit());
process.send?.({ call: 0 });

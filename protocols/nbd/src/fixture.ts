import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { connect, type Socket } from "node:net";
import { join } from "node:path";
import { putRequest, type Request, requestBytes } from "./codec.ts";
import type { BlockDevice, Export } from "./device.ts";
import { encodeClientFlags, encodeInfoRequest, encodeOption } from "./handshake-codec.ts";
import { MemoryDevice } from "./memory.ts";
import { Command, Option } from "./protocol.ts";
import { NbdServer, type NbdServerOptions } from "./server.ts";

/** For tests: servers, devices and clients that behave as a test wants them to. */
export const MiB = 1024 * 1024;

export interface Served extends AsyncDisposable {
  server: NbdServer;
  directory: string;
  path: string;
  uri(name?: string): string;
}

export async function serve(device: BlockDevice | Export[], options: NbdServerOptions = {}): Promise<Served> {
  const directory = await mkdtemp("/tmp/skep-nbd-");
  const path = join(directory, "nbd.sock");
  const server = new NbdServer(options);
  for (const entry of Array.isArray(device) ? device : [{ name: "disk", device }]) server.add(entry);
  await server.listen({ path });
  return {
    server,
    directory,
    path,
    uri: (name = "") => `nbd+unix:///${name}?socket=${path}`,
    async [Symbol.asyncDispose]() {
      await server.close({ graceMs: 0 });
      await rm(directory, { recursive: true, force: true });
    },
  };
}

/** A memory device with some of its methods replaced. */
export function deviceWith(methods: Partial<BlockDevice>): BlockDevice {
  const memory = new MemoryDevice({ sizeBytes: 64 * MiB });
  return new Proxy(memory, {
    get: (target, name) => {
      if (name in methods) return methods[name as keyof BlockDevice];
      const value = Reflect.get(target, name, target) as unknown;
      return typeof value === "function" ? value.bind(target) : value;
    },
  }) as BlockDevice;
}

/** Waits until something is so. */
export async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 2));
}

/** A client that says what it wants: in the transmission phase, with simple replies. */
export async function rawClient(path: string): Promise<Socket> {
  const socket = connect(path);
  socket.write(encodeClientFlags({ fixedNewstyle: true, noZeroes: true }));
  socket.write(encodeOption(Option.go, encodeInfoRequest({ name: "", infos: [] })));
  const ends = Buffer.from([0, 0, 0, Option.go, 0, 0, 0, 1, 0, 0, 0, 0]);
  let seen = Buffer.alloc(0);
  while (!seen.includes(ends)) seen = Buffer.concat([seen, ((await once(socket, "data")) as [Buffer])[0]]);
  return socket;
}

export function request(fields: Partial<Request>): Buffer {
  const header = Buffer.alloc(requestBytes);
  const base = { flags: 0, command: Command.read, cookieHigh: 0, cookieLow: 0, offset: 0, length: 0 };
  putRequest(header, 0, { ...base, ...fields });
  return header;
}

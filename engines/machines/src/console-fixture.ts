import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer, type Socket } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Console } from "./console.ts";
import { ConsoleLog } from "./console-log.ts";

export interface FakeSerial extends AsyncDisposable {
  console: Console;
  directory: string;
  scriptSocket: string;
  print(output: string | Buffer): void;
  /** What the guest has received, as latin1. */
  typed(): string;
  /** The guest stops or goes on reading what is typed. */
  listen(on: boolean): void;
  /** As when QEMU ends. */
  hangUp(): void;
  until(condition: () => boolean): Promise<void>;
}

/** For tests: an open console over a socket that behaves as QEMU's serial chardev. */
export async function fakeSerial(): Promise<FakeSerial> {
  const directory = await mkdtemp("/tmp/skep-console-");
  const serialSocket = join(directory, "serial.sock");
  const scriptSocket = join(directory, "console.sock");
  let typed = "";
  let guest: Socket | undefined;
  const server = createServer((socket) => {
    guest = socket;
    socket.on("error", () => {});
    socket.on("data", (bytes) => {
      typed += bytes.toString("latin1");
    });
  });
  server.listen(serialSocket);
  await once(server, "listening");
  const console = new Console({
    name: "web",
    serialSocket,
    scriptSocket,
    log: new ConsoleLog(join(directory, "console.log")),
  });
  await console.open();
  const until = async (condition: () => boolean) => {
    while (!condition()) await sleep(5);
  };
  await until(() => guest !== undefined);
  return {
    console,
    directory,
    scriptSocket,
    print: (output) => guest?.write(typeof output === "string" ? Buffer.from(output, "latin1") : output),
    typed: () => typed,
    listen: (on) => (on ? guest?.resume() : guest?.pause()),
    hangUp: () => guest?.destroy(),
    until,
    async [Symbol.asyncDispose]() {
      await console.close("the test has ended");
      guest?.destroy();
      server.close();
      await rm(directory, { recursive: true, force: true });
    },
  };
}

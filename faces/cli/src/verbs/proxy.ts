import { pipeline } from "node:stream/promises";
import type { Command } from "commander";
import { action } from "../context.ts";
import { fail, usage } from "../errors.ts";

export function define(command: Command): void {
  command
    .summary("connect stdin and stdout to a machine's port")
    .description("Connects standard input and output to a port of a machine, as ssh's ProxyCommand wants it.")
    .argument("<name>", "machine")
    .argument("[port]", "TCP port in the machine", "22")
    .addHelpText(
      "after",
      "\nExamples:\n  ssh -o ProxyCommand='skep proxy web' debian@web\n  skep proxy web 5432",
    )
    .action(
      action(async (context, name: string, port: string) => {
        if (!/^\d{1,5}$/.test(port) || Number(port) < 1 || Number(port) > 65_535)
          throw usage(`port "${port}" is not a port`);
        const [client, { createWebSocketStream }] = await Promise.all([context.client(), import("ws")]);
        const socket = await client.socket(`/v1/machines/${encodeURIComponent(name)}/tunnel?port=${port}`);
        const stream = createWebSocketStream(socket, { highWaterMark: 256 * 1024 });
        const outgoing = pipeline(process.stdin, stream);
        outgoing.catch(() => {}); // what counts is how the machine's side ends
        try {
          await pipeline(stream, process.stdout, { end: false });
        } catch (error) {
          throw fail("CONNECTION_LOST", { name, why: "" }, { cause: error });
        } finally {
          socket.terminate();
        }
      }),
    );
}

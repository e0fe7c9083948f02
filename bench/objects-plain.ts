/**
 * What node:http reaches with nothing behind it: takes bodies and forgets them, gives what was asked for
 * from one buffer, or from one file where it is large. `node objects-plain.ts DIRECTORY`; prints its port.
 */
import { createReadStream } from "node:fs";
import { open } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { pipeline } from "node:stream";

const large = 64 * 1024 * 1024;
const file = join(process.argv[2] as string, "plain.bin");
const small = Buffer.alloc(4096, 7);
await using handle = await open(file, "w");
await handle.writeFile(Buffer.alloc(large, 7));

const server = createServer((request, response) => {
  if (request.method === "GET") {
    const isLarge = request.url?.includes("large") === true;
    response.writeHead(200, { "content-length": isLarge ? large : small.length });
    if (isLarge) pipeline(createReadStream(file, { highWaterMark: 1024 * 1024 }), response, () => {});
    else response.end(small);
    return;
  }
  request.resume();
  request.on("end", () => {
    response.writeHead(request.method === "DELETE" ? 204 : 200, { "content-length": 0 }).end();
  });
});
server.listen(0, "127.0.0.1", () => console.log((server.address() as AddressInfo).port));
process.once("SIGTERM", () => {
  server.closeAllConnections();
  server.close();
});

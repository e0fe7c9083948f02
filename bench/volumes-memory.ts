/** A device in memory over NBD, with nothing behind it. `node volumes-memory.ts SOCKET BYTES` */
import { MemoryDevice, NbdServer } from "@skep/nbd";

const [socket, sizeBytes] = process.argv.slice(2) as [string, string];
const server = new NbdServer({ onError: (error, where) => console.error(where, error) });
server.add({ name: "", device: new MemoryDevice({ sizeBytes: Number(sizeBytes) }) });
await server.listen({ path: socket });
process.once("SIGTERM", () => void server[Symbol.asyncDispose]().then(() => process.exit()));

import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:net";
import { describe, it } from "node:test";
import { chooseFreePort, isFree, settlePorts } from "./host-ports.ts";

async function listening(): Promise<{ port: number; close(): Promise<void> }> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("no port");
  return {
    port: address.port,
    close: async () => {
      server.close();
      await once(server, "close");
    },
  };
}

const nobody = () => undefined;

describe("ports of the host", () => {
  it("chooses a free one outside the range of outgoing connections", async () => {
    const [port] = await settlePorts([{ hostPort: 0, guestPort: 22 }], nobody);
    assert.ok(port?.automatic && port.hostPort >= 20_000 && port.hostPort < 32_768);
    assert.equal(port.hostAddress, "127.0.0.1");
  });

  it("never chooses one that a machine has", async () => {
    const port = await chooseFreePort("127.0.0.1", "tcp", (candidate) => candidate !== 20_123);
    assert.equal(port, 20_123);
  });

  it("tells who has a port that was asked for", async () => {
    const request = [{ hostPort: 8080, guestPort: 80 }];
    await assert.rejects(
      settlePorts(request, () => "db"),
      { code: "PORT_DOUBLE", message: /"db"/ },
    );
    await assert.rejects(settlePorts([...request, ...request], nobody), { code: "PORT_TAKEN" });
    const server = await listening();
    try {
      assert.equal(await isFree("127.0.0.1", server.port, "tcp"), false);
      await assert.rejects(settlePorts([{ hostPort: server.port, guestPort: 80 }], nobody), {
        code: "PORT_TAKEN",
      });
    } finally {
      await server.close();
    }
  });

  it("keeps tcp and udp apart", async () => {
    // By chance another program may use one of these numbers for udp.
    const servers = await Promise.all([listening(), listening(), listening()]);
    try {
      const free = await Promise.all(servers.map(({ port }) => isFree("127.0.0.1", port, "udp")));
      assert.ok(free.includes(true));
    } finally {
      for (const server of servers) await server.close();
    }
  });
});

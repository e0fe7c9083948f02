/** Volumes in a store elsewhere, over S3 from this house's own face. */
import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";
import { join } from "node:path";
import { describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { type ForeignOptions, ForeignStore } from "@skep/objects/foreign";
import { startTestServer } from "@skep/s3/testing";
import { type OpenVolume, openVolumes, type VolumeStore } from "@skep/volumes";
import { volumeBehaviour } from "@skep/volumes/testing";

interface Bucket extends AsyncDisposable {
  port: number;
  /** All but the endpoint. */
  options: ForeignOptions;
}

async function bucket(): Promise<Bucket> {
  const server = await startTestServer();
  const { account, accessKeyId, secret } = server.main;
  await server.store.createBucket("volumes", { owner: account.id });
  return {
    port: server.port,
    options: { bucket: "volumes", prefix: "below/", credentials: { accessKeyId, secret } },
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
  };
}

volumeBehaviour("a ForeignStore, on the S3 face", async () => {
  const { port, options, ...server } = await bucket();
  const store = new ForeignStore({ ...options, endpoint: `http://127.0.0.1:${port}` });
  return {
    store,
    isForeign: true,
    [Symbol.asyncDispose]: async () => {
      await store[Symbol.asyncDispose]();
      await server[Symbol.asyncDispose]();
    },
  };
});

/** Carries bytes between a client and a server, or does not. */
class Relay implements AsyncDisposable {
  /** Connections break as soon as something is asked. */
  isCut = false;
  /** One of so many answers is lost, after the server has done what was asked; 0: none. */
  loses = 0;
  lost = 0;
  #answers = 0;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  private constructor(port: number) {
    this.#server = createServer((client) => this.#carry(client, connect(port, "127.0.0.1")));
  }

  static async start(port: number): Promise<Relay> {
    const relay = new Relay(port);
    await new Promise<void>((resolve) => relay.#server.listen(0, "127.0.0.1", resolve));
    return relay;
  }

  get endpoint(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  #carry(client: Socket, server: Socket): void {
    for (const [from, to] of [
      [client, server],
      [server, client],
    ] as const) {
      this.#sockets.add(from);
      from.on("error", () => undefined);
      from.on("close", () => {
        this.#sockets.delete(from);
        to.destroy();
      });
    }
    client.on("data", (bytes: Buffer) => {
      if (this.isCut) client.destroy();
      else server.write(bytes);
    });
    server.on("data", (bytes: Buffer) => {
      if (bytes.subarray(0, 5).toString() === "HTTP/") this.#answers += 1;
      if (this.loses > 0 && this.#answers % this.loses === this.loses - 1) {
        this.lost += 1;
        client.destroy();
      } else client.write(bytes);
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}

/** Volumes behind a relay, as two hosts have them. */
class Scene extends AsyncDisposableStack {
  readonly relay: Relay;
  readonly here: VolumeStore;
  readonly elsewhere: VolumeStore;

  private constructor(relay: Relay, hosts: [VolumeStore, VolumeStore]) {
    super();
    this.relay = relay;
    [this.here, this.elsewhere] = hosts;
  }

  static async set(): Promise<Scene> {
    await using undo = new AsyncDisposableStack();
    const directory = await mkdtemp("/tmp/skep-vol-");
    undo.defer(() => rm(directory, { recursive: true }));
    const server = undo.use(await bucket());
    const relay = undo.use(await Relay.start(server.port));
    // With ten attempts no request loses all its answers.
    const at = { endpoint: relay.endpoint, attempts: 10, pauseMs: 1 };
    const store = undo.use(new ForeignStore({ ...server.options, ...at }));
    const host = (name: string) =>
      openVolumes({ store, directory: join(directory, name), host: name, segmentBytes: 2 ** 20 });
    const scene = new Scene(relay, [host("here"), host("elsewhere")]);
    scene.use(undo.move());
    return scene;
  }
}

const sizeBytes = 2 ** 20;

async function contents(volume: OpenVolume): Promise<Buffer> {
  const { signal } = new AbortController();
  const result = await volume.read(0, volume.sizeBytes, { signal });
  const parts = result instanceof Uint8Array ? [result] : result;
  return Buffer.concat(parts.map((part) => (part instanceof Uint8Array ? part : Buffer.alloc(part.zeroes))));
}

describe("a volume in a store elsewhere", () => {
  it("waits for a server that breaks off, says so, and loses nothing", async () => {
    await using scene = await Scene.set();
    const { id } = await scene.here.create({ sizeBytes });
    const volume = await scene.here.open(id);
    const expected = Buffer.alloc(sizeBytes);
    const write = async (at: number, fill: string) => {
      await volume.write(at, Buffer.alloc(50_000, fill), { fua: true });
      expected.fill(fill, at, at + 50_000);
    };
    await write(0, "a");
    await volume.drain();
    scene.relay.isCut = true;
    await write(20_000, "b");
    const draining = volume.drain();
    while (volume.statistics().problem === null) await sleep(10);
    assert.match(volume.statistics().problem?.message ?? "", /127\.0\.0\.1/);
    await write(300_000, "c");
    assert.ok((await contents(volume)).equals(expected));
    scene.relay.isCut = false;
    await draining;
    assert.equal(volume.statistics().problem, null);
    await volume.close();
    await using again = await scene.elsewhere.open(id);
    assert.ok((await contents(again)).equals(expected));
  });

  it("takes its own writes for its own when the answers to them are lost", async () => {
    await using scene = await Scene.set();
    scene.relay.loses = 3;
    const expected = Buffer.alloc(sizeBytes);
    const { id } = await scene.here.create({ sizeBytes, objBlockBytes: 65_536 });
    for (let round = 0; round < 10; round += 1) {
      const volume = await [scene.here, scene.elsewhere][round % 2]?.open(id);
      assert.ok(volume !== undefined);
      assert.ok((await contents(volume)).equals(expected), `round ${round}`);
      const [from, to] = [round * 30_000, round * 30_000 + 100_000];
      await volume.write(from, Buffer.alloc(to - from, 65 + round), { fua: false });
      expected.fill(65 + round, from, to);
      await volume.drain();
      await volume.snapshot({ name: `of round ${round}` });
      if (round % 3 === 2) await volume.collectGarbage();
      await volume.close();
    }
    assert.ok(scene.relay.lost > 20, `${scene.relay.lost} answers were lost`);
    scene.relay.loses = 0;
    assert.deepEqual((await scene.here.check(id)).findings, []);
    assert.equal((await scene.here.info(id)).snapshots.length, 10);
    await scene.here.remove(id, { snapshots: true });
    assert.deepEqual((await scene.here.store.list()).objects, []);
  });
});

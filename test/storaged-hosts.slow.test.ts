/** Several homes, hosts and commands at once, and what is in the way of a start. */
import assert from "node:assert/strict";
import { readdir, readFile, rename } from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";
import { describe, it } from "node:test";
import { Storage } from "./storage.ts";
import { eventually } from "./support.ts";

describe("processes of object storage beside others", { concurrency: false }, () => {
  it("two homes serve at once, each with its own CA, buckets and keys", async () => {
    await using one = await Storage.make();
    await using other = await Storage.make("--http");
    await one.skep.skep(["bucket", "create", "mine"]);
    await other.skep.skep(["bucket", "create", "mine"]);
    const { id, secret } = await one.key();
    const refused = ["auth", "--access-key", id, "--secret-key", secret, "--endpoint-url", other.endpoint];
    assert.match((await one.skep.skep(refused, { status: 1 })).stderr, /does not accept key/);
    await other.skep.skep(["auth"]);
    assert.equal((await other.aws("skep", "s3", "ls", "s3://mine")).status, 0);
    const foreign = await other.skep.skep(
      ["auth", "--profile", "x", "--access-key", id, "--secret-key", secret, "--endpoint-url", one.endpoint],
      { status: 1 },
    );
    assert.match(foreign.stderr, /certificate .* is not accepted/);
    await other.skep.skep([
      ...[
        "auth",
        "--profile",
        "x",
        "--access-key",
        id,
        "--secret-key",
        secret,
        "--endpoint-url",
        one.endpoint,
      ],
      ...["--ca-bundle", join(one.skep.home, "tls/ca.pem")],
    ]);
  });

  it("an address that is taken is refused and the endpoint stays; at a start it is waited for", async () => {
    await using storage = await Storage.make();
    const squatter = createServer();
    await new Promise<void>((resolve) => squatter.listen(0, "127.0.0.1", resolve));
    const { port } = squatter.address() as { port: number };
    try {
      const refused = await storage.skep.skep(["up", "--listen", `127.0.0.1:${port}`], { status: 1 });
      assert.match(refused.stderr, /another program listens there/);
      assert.equal(await storage.answers(), true);
      for (const address of ["nonsense", "1.2.3.4:99999"]) {
        await storage.skep.skep(["up", "--listen", address], { status: 2 });
      }
      await storage.skep.skep(["up", "--domain", "not a domain"], { status: 2 });
      assert.equal(await storage.answers(), true);
    } finally {
      squatter.close();
    }
    await storage.skep.killDaemon();
    await storage.skep.killStoraged();
    const late = createServer();
    const { port: its } = new URL(storage.endpoint);
    // The kernel may still be closing what the dead had open.
    await eventually(
      () =>
        new Promise((resolve) => {
          late.once("error", () => resolve(false)).listen(Number(its), "127.0.0.1", () => resolve(true));
        }),
      () => `port ${its} is never free`,
    );
    try {
      await storage.skep.skep(["ls"]);
      await eventually(
        async () => /does not listen/.test((await storage.skep.skep(["doctor"], { status: null })).stdout),
        () => "doctor never said that the endpoint does not listen",
      );
    } finally {
      late.close();
    }
    await eventually(
      () => storage.answers(),
      () => "the endpoint never came back",
    );
  });

  it("of several that say up at once all are told the same, and lost sealing keys are said", async () => {
    await using storage = await Storage.make();
    const { skep } = storage;
    const { host } = new URL(storage.endpoint);
    await skep.skep(["down"]);
    const all = await Promise.all([1, 2, 3].map(() => skep.skep(["up", "-q", "--listen", host])));
    assert.deepEqual(new Set(all.map(({ stdout }) => stdout.trim())), new Set([storage.endpoint]));
    const key = join(skep.home, "accounts.key");
    await rename(key, `${key}.away`);
    await skep.killDaemon();
    await skep.killStoraged();
    assert.match((await skep.skep(["up"], { status: 1 })).stderr, /accounts\.key is gone/);
    assert.match((await skep.skep(["doctor"], { status: 1 })).stdout, /accounts\.key is gone/);
    await skep.skep(["ls"]);
    await rename(`${key}.away`, key);
    await eventually(
      () => storage.answers(),
      () => "storaged was not started again",
    );
  });

  it("another host's objects are reached through its token and its endpoint", async () => {
    await using storage = await Storage.make();
    const { skep } = storage;
    await skep.skep(["bucket", "create", "far"]);
    await skep.skep(["daemon", "start", "--listen", "127.0.0.1:0"]);
    const { listen } = await storage.json<{ listen: string }>("daemon", "status");
    const token = (await skep.skep(["token", "create", "t"])).stdout.trim();
    const env = { SKEP_TOKEN: token, SKEP_HOST: `https://${listen}`, SKEP_HOME: join(storage.user, "none") };
    await skep.skep(["object", "put", "-", "far/x"], { env, input: "far away" });
    assert.equal((await skep.skep(["object", "get", "far/x", "-"], { env })).stdout, "far away");
    await skep.skep(["auth", "--profile", "far"], { env });
    assert.match((await storage.aws("far", "s3", "ls", "s3://far")).stdout, / x$/m);
    await skep.skep(["down"]);
    const down = await skep.skep(["object", "get", "far/x", "-"], { env, status: 1 });
    assert.match(down.stderr, /is not served on the network/);
  });

  it("down after kill -9 leaves no second one that waited for the first one's lock", async () => {
    await using storage = await Storage.make();
    await storage.skep.killStoraged();
    await Promise.all([storage.skep.skep(["up"]), storage.skep.skep(["bucket", "ls"])]);
    assert.equal((await storagedsOf(storage.skep.home)).length, 1);
    await storage.skep.skep(["down"]);
    assert.deepEqual(await storagedsOf(storage.skep.home), []);
  });
});

/** Pids of all that run storaged for a home, also of those that say nothing of themselves. */
async function storagedsOf(home: string): Promise<string[]> {
  const pids: string[] = [];
  for (const pid of (await readdir("/proc")).filter((name) => /^\d+$/.test(name))) {
    const read = (name: string) => readFile(join("/proc", pid, name), "latin1").catch(() => "");
    const isStoraged = (await read("cmdline")).includes("storaged");
    if (isStoraged && (await read("environ")).split("\0").includes(`SKEP_HOME=${home}`)) pids.push(pid);
  }
  return pids;
}

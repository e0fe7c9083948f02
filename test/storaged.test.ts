/** storaged and skepd: what becomes of S3 when one of them dies, moves or is told to. */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { readdir, readFile, rename } from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";
import { describe, it } from "node:test";
import { digest, Storage } from "./storage.ts";
import { eventually, Installation } from "./support.ts";

describe("processes of object storage", { concurrency: false }, () => {
  it("storaged comes back by itself after kill -9, with all that it had acknowledged", async () => {
    await using storage = await Storage.make();
    await storage.skep.skep(["bucket", "create", "data"]);
    await storage.skep.skep(["auth"]);
    const bytes = randomBytes(30 * 1024 * 1024);
    const source = await storage.file("source", bytes);
    await storage.skep.skep(["object", "put", source, "data/before"]);
    const pid = storage.skep.storagedPid();
    // In the middle of a transfer: it goes on with the new process.
    const during = storage.skep.skep(["object", "put", source, "data/during"]);
    await storage.skep.killStoraged();
    await during;
    await eventually(
      () => storage.answers(),
      () => "the endpoint never came back",
    );
    assert.notEqual(storage.skep.storagedPid(), pid);
    for (const key of ["before", "during"]) {
      const back = join(storage.user, key);
      const copied = await storage.aws("skep", "s3", "cp", `s3://data/${key}`, back);
      assert.equal(copied.status, 0, copied.stderr);
      assert.equal(digest(await readFile(back)), digest(bytes));
    }
    const { stdout } = await storage.skep.skep(["doctor", "--json"], { status: null });
    assert.match(stdout, /storaged has died/);
  });

  it("kill -9 of skepd harms no S3 client, and the next skepd watches the same storaged", async () => {
    await using storage = await Storage.make();
    await storage.skep.skep(["auth"]);
    const pid = storage.skep.storagedPid();
    await storage.skep.killDaemon();
    assert.equal((await storage.aws("skep", "s3", "mb", "s3://without-skepd")).status, 0);
    await storage.skep.skep(["ls"]);
    assert.equal(storage.skep.storagedPid(), pid);
    await storage.skep.killStoraged();
    await eventually(
      () => storage.answers(),
      () => "nobody started storaged again",
    );
    // With both dead, the next skepd brings back what was up.
    await storage.skep.killDaemon();
    await storage.skep.killStoraged();
    await storage.skep.skep(["ls"]);
    await eventually(
      () => storage.answers(),
      () => "skepd did not start storaged",
    );
    assert.match((await storage.aws("skep", "s3", "ls")).stdout, /without-skepd/);
  });

  it("down ends the endpoint and the process, up serves the same again at the same address", async () => {
    await using storage = await Storage.make();
    await storage.skep.skep(["bucket", "create", "kept"]);
    await storage.skep.skep(["down"]);
    assert.equal(await storage.answers(), false);
    assert.equal(storage.skep.storagedPid(), undefined);
    const left = await readdir(storage.skep.runtime);
    assert.deepEqual(
      left.filter((name) => /stor|s3/.test(name)),
      [],
    );
    await storage.skep.skep(["daemon", "restart"]);
    assert.equal(await storage.answers(), false);
    const up = await storage.skep.skep(["up", "-q"]);
    assert.equal(up.stdout.trim(), storage.endpoint);
    assert.match((await storage.skep.skep(["bucket", "ls"])).stdout, /kept/);
    await storage.skep.skep(["down"]);
    await storage.skep.skep(["down"]);
  });

  it("down after kill -9 leaves no second one that waited for the first one's lock", async () => {
    await using storage = await Storage.make();
    await storage.skep.killStoraged();
    await Promise.all([storage.skep.skep(["up"]), storage.skep.skep(["bucket", "ls"])]);
    assert.equal((await storagedsOf(storage.skep.home)).length, 1);
    await storage.skep.skep(["down"]);
    assert.deepEqual(await storagedsOf(storage.skep.home), []);
  });

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

  it("names under a domain are covered by the certificate, after a change too", async () => {
    await using storage = await Storage.make();
    await storage.skep.skep(["up", "--domain", "s3.test.example"]);
    await storage.skep.skep(["bucket", "create", "photos"]);
    const port = new URL(storage.endpoint).port;
    const ca = join(storage.skep.home, "tls/ca.pem");
    const host = `photos.s3.test.example`;
    const answer = await storage.skep.command("curl", [
      ...[
        "-s",
        "--cacert",
        ca,
        "--resolve",
        `${host}:${port}:127.0.0.1`,
        `https://${host}:${port}/?list-type=2`,
      ],
    ]);
    assert.match(answer.stdout, /AccessDenied/);
  });

  it("lifecycle rules are kept", async () => {
    const skep = await Installation.make([]);
    await using storage = new Storage(skep);
    const env = { SKEP_LIFECYCLE_DAY: "1s" };
    const up = await skep.skep(["up", "-q", "--listen", "127.0.0.1:0"], { env });
    storage.endpoint = up.stdout.trim();
    await skep.skep(["bucket", "create", "short"]);
    await skep.skep(["auth"]);
    const rules = {
      Rules: [{ ID: "x", Status: "Enabled", Filter: { Prefix: "old/" }, Expiration: { Days: 1 } }],
    };
    const set = await storage.aws(
      "skep",
      ...["s3api", "put-bucket-lifecycle-configuration", "--bucket", "short"],
      ...["--lifecycle-configuration", JSON.stringify(rules)],
    );
    assert.equal(set.status, 0, set.stderr);
    await skep.skep(["object", "put", "-", "short/old/a"], { input: "a" });
    await skep.skep(["object", "put", "-", "short/new"], { input: "b" });
    await eventually(
      async () => (await storage.json<unknown[]>("object", "ls", "-r", "short")).length === 1,
      () => "the old object never went",
    );
    assert.match((await skep.skep(["object", "ls", "-r", "short"])).stdout, /new/);
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

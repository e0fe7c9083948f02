/** Object storage as its users meet it: through `skep`, AWS tools, and the death of processes. */
import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { existsSync } from "node:fs";
import { chmod, mkdir, readdir, readFile, stat, symlink, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { dirname, join } from "node:path";
import { after, before, describe, it } from "node:test";
import { eventually, Installation, type Result } from "./support.ts";

/** The distribution's, where it is: it knows no endpoint_url in a profile. */
const aws = existsSync("/usr/bin/aws") ? "/usr/bin/aws" : "aws";

interface Key {
  id: string;
  secret: string;
}

class Storage extends AsyncDisposableStack {
  readonly skep: Installation;
  endpoint = "";

  constructor(skep: Installation) {
    super();
    this.skep = this.use(skep);
  }

  static async make(...options: string[]): Promise<Storage> {
    const storage = new Storage(await Installation.make([]));
    const up = await storage.skep.skep(["up", "-q", "--listen", "127.0.0.1:0", ...options]);
    storage.endpoint = up.stdout.trim();
    return storage;
  }

  async json<T>(...args: string[]): Promise<T> {
    return JSON.parse((await this.skep.skep([...args, "--json"])).stdout) as T;
  }

  /** A file in the user's home. */
  async file(name: string, content: string | Uint8Array): Promise<string> {
    const path = join(this.user, name);
    await mkdir(dirname(path), { recursive: true });
    await writeFile(path, content);
    return path;
  }

  get user(): string {
    return this.skep.environment.HOME as string;
  }

  async key(...options: string[]): Promise<Key> {
    const { stdout } = await this.skep.skep(["key", "create", "-q", ...options]);
    const [id = "", secret = ""] = stdout.trim().split(" ");
    return { id, secret };
  }

  /** aws with a profile that `skep auth` has written; the CA is verified. */
  async aws(profile: string, ...args: string[]): Promise<Result> {
    return this.skep.command(aws, ["--profile", profile, "--endpoint-url", this.endpoint, ...args]);
  }

  /** The endpoint's answer to a request that nobody has signed. */
  async answers(): Promise<boolean> {
    const { stdout } = await this.skep.command("curl", [
      "-sk",
      "-o",
      "/dev/null",
      "-w",
      "%{http_code}",
      this.endpoint,
    ]);
    return stdout === "200";
  }
}

const digest = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex");

describe("object storage as the seed says", { concurrency: false }, () => {
  let storage: Storage;
  before(async () => {
    storage = await Storage.make();
  });
  after(() => storage.disposeAsync());

  it("is configured and authenticated, other profiles untouched, and AWS tools work with it", async () => {
    const other = "# mine\n[work]\naws_access_key_id = AKIAWORK\naws_secret_access_key=w/ork\n";
    const credentials = await storage.file(".aws/credentials", other);
    await chmod(credentials, 0o644);
    const port = new URL(storage.endpoint).port;
    const { id, secret } = await storage.key("--name", "seed");
    const url = `https://localhost:${port}/`;
    await storage.skep.skep(["configure", "--profile", "hivelocal", "--endpoint-url", url]);
    const auth = ["auth", "--access_key", id, "--secret_key", secret, "--profile", "hivelocal"];
    const { stdout, stderr } = await storage.skep.skep([...auth, "--endpoint-url", url]);
    assert.ok(!(stdout + stderr).includes(secret));
    const written = await readFile(credentials, "utf8");
    assert.equal(
      written,
      `${other}\n[hivelocal]\naws_access_key_id = ${id}\naws_secret_access_key = ${secret}\n`,
    );
    assert.equal((await stat(credentials)).mode & 0o777, 0o600);
    const made = await storage.aws("hivelocal", "s3", "mb", "s3://seed");
    assert.equal(made.status, 0, made.stderr);
    const source = await storage.file("volume.json", '{"VolumeName":"vol-1"}');
    assert.equal(
      (await storage.aws("hivelocal", "s3", "cp", source, "s3://seed/vol-1/config.json")).status,
      0,
    );
    const listed = await storage.aws("hivelocal", "s3", "ls", "--recursive", "s3://seed");
    assert.match(listed.stdout, /vol-1\/config\.json/);
  });

  it("auth without a key makes one, and keeps one that works", async () => {
    const first = await storage.json<{ accessKeyId: string; created: boolean }>("auth", "--profile", "mine");
    assert.equal(first.created, true);
    const again = await storage.json<{ accessKeyId: string; created: boolean }>("auth", "--profile", "mine");
    assert.deepEqual([again.accessKeyId, again.created], [first.accessKeyId, false]);
    assert.equal((await storage.aws("mine", "s3", "ls")).status, 0);
  });

  it("auth refuses keys that do not work and endpoints that are none, and writes nothing then", async () => {
    const before_ = await readFile(join(storage.user, ".aws/credentials"), "utf8");
    const refuse = async (args: string[], pattern: RegExp, status = 1) => {
      const { stderr } = await storage.skep.skep(["auth", "--profile", "bad", ...args], { status });
      assert.match(stderr, pattern);
    };
    const { id } = await storage.key();
    await refuse(["--access-key", id, "--secret-key", "wrong-secret"], /does not accept key/);
    await refuse(["--access-key", "NOBODY", "--secret-key", "wrong-secret"], /does not accept key/);
    await refuse(["--access-key", id], /go together/, 2);
    await refuse(["--endpoint-url", "ftp://x"], /is not an endpoint/, 2);
    await refuse(
      ["--access-key", id, "--secret-key", "x".repeat(9), "--endpoint-url", "https://127.0.0.1:1"],
      /cannot reach/,
    );
    await refuse(["--profile", "a]b"], /is not a profile's name/, 2);
    assert.equal(await readFile(join(storage.user, ".aws/credentials"), "utf8"), before_);
  });

  it("a key's scopes bind it, and its removal takes effect at once", async () => {
    await storage.skep.skep(["bucket", "create", "open", "closed"]);
    await storage.skep.skep(["object", "put", "-", "open/hello"], { input: "hello" });
    const { id, secret } = await storage.key("--bucket", "open:read");
    await storage.skep.skep(["auth", "--profile", "scoped", "--access-key", id, "--secret-key", "-"], {
      input: `${secret}\n`,
    });
    const scoped = (...args: string[]) => storage.aws("scoped", "s3", ...args);
    assert.equal((await scoped("cp", "s3://open/hello", "-")).stdout, "hello");
    const source = await storage.file("hello", "changed");
    assert.match((await scoped("cp", source, "s3://open/hello")).stderr, /AccessDenied/);
    assert.match((await scoped("ls", "s3://closed")).stderr, /AccessDenied/);
    await storage.skep.skep(["key", "rm", id]);
    assert.match((await scoped("cp", "s3://open/hello", "-")).stderr, /403|InvalidAccessKeyId/);
  });

  it("accounts keep their buckets apart, and stay while they own something", async () => {
    await storage.skep.skep(["account", "create", "ann", "--email", "ann@example.org"]);
    const { id, secret } = await storage.key("--account", "ann");
    await storage.skep.skep(["auth", "--profile", "ann", "--access-key", id, "--secret-key", secret]);
    assert.equal((await storage.aws("ann", "s3", "mb", "s3://anns")).status, 0);
    assert.match((await storage.aws("mine", "s3", "ls", "s3://anns")).stderr, /AccessDenied/);
    const buckets = await storage.json<{ name: string; account: string }[]>("bucket", "ls");
    assert.equal(buckets.find(({ name }) => name === "anns")?.account, "ann");
    const usedBy = await storage.skep.skep(["account", "rm", "ann"], { status: 1 });
    assert.match(usedBy.stderr, /still owns 1 buckets/);
    await storage.skep.skep(["bucket", "rm", "anns"]);
    assert.match(
      (await storage.skep.skep(["account", "rm", "ann"], { status: 1 })).stderr,
      /still has 1 keys/,
    );
    await storage.skep.skep(["key", "rm", id]);
    await storage.skep.skep(["account", "rm", "ann"]);
  });

  it("usage is in the list of buckets and in /metrics; requests are in the access log, signatures are not", async () => {
    await storage.skep.skep(["bucket", "create", "measured"]);
    await storage.skep.skep(["object", "put", "-", "measured/x"], { input: Buffer.alloc(1000) });
    const [bucket] = (
      await storage.json<{ name: string; objects: number; bytes: number }[]>("object", "ls")
    ).filter(({ name }) => name === "measured");
    assert.deepEqual([bucket?.objects, bucket?.bytes], [1, 1000]);
    const socket = join(storage.skep.runtime, "skepd.sock");
    const metrics = await storage.skep.command("curl", [
      "-s",
      "--unix-socket",
      socket,
      "http://skepd/metrics",
    ]);
    assert.match(metrics.stdout, /^skep_bucket_bytes\{bucket="measured"\} 1000$/m);
    const log = join(storage.skep.home, "storaged-access.log");
    await eventually(
      async () => (await readFile(log, "utf8")).includes('"key":"x"'),
      () => "the put never came to the access log",
    );
    assert.doesNotMatch(await readFile(log, "utf8"), /Signature=[0-9a-f]{16}/);
  });

  it("secrets are in no file of the home, and its sockets and keys are the user's alone", async () => {
    const { secret } = await storage.key();
    for (const file of await readdir(storage.skep.home)) {
      const path = join(storage.skep.home, file);
      if (!(await stat(path)).isFile()) continue;
      assert.ok(!(await readFile(path)).includes(secret), file);
    }
    for (const name of ["storaged.sock", "s3.sock"]) {
      assert.equal((await stat(join(storage.skep.runtime, name))).mode & 0o777, 0o600);
    }
    assert.equal((await stat(join(storage.skep.home, "accounts.key"))).mode & 0o777, 0o600);
  });
});

describe("skep object", { concurrency: false }, () => {
  let storage: Storage;
  before(async () => {
    storage = new Storage(await Installation.make([]));
    await storage.skep.skep(["bucket", "create", "data"]);
  });
  after(() => storage.disposeAsync());

  it("works on this host with nothing served and without any key", async () => {
    const status = await storage.json<unknown[]>("key", "ls");
    assert.deepEqual(status, []);
    await storage.skep.skep(["object", "put", "-", "data/dir/a b+ü"], { input: "bytes\0" });
    assert.equal((await storage.skep.skep(["object", "get", "data/dir/a b+ü", "-"])).stdout, "bytes\0");
    assert.match((await storage.skep.skep(["object", "ls", "data"])).stdout, /dir\//);
    assert.match((await storage.skep.skep(["object", "ls", "-r", "data/dir"])).stdout, /dir\/a b\+ü/);
    await storage.skep.skep(["object", "rm", "data/dir/a b+ü"]);
    assert.deepEqual(await storage.json("object", "ls", "-r", "data"), []);
  });

  it("carries large objects in parts, and each arrives as it was", async () => {
    const bytes = randomBytes(40 * 1024 * 1024 + 7);
    const source = await storage.file("large", bytes);
    await storage.skep.skep(["object", "put", source, "s3://data/large"]);
    await storage.skep.skep(["object", "get", "data/large", join(storage.user, "back")]);
    assert.equal(digest(await readFile(join(storage.user, "back"))), digest(bytes));
    const piped = await storage.skep.skep(["object", "put", "-", "data/piped"], { input: bytes });
    assert.equal(piped.status, 0);
    const sizes = await storage.json<{ key: string; sizeBytes: number }[]>("object", "ls", "-r", "data");
    assert.deepEqual(
      sizes.map(({ sizeBytes }) => sizeBytes),
      [bytes.length, bytes.length],
    );
    const [bucket] = await storage.json<{ uploads: number }[]>("bucket", "ls");
    assert.equal(bucket?.uploads, 0);
  });

  it("stores and fetches directories, and keys that would lead out of them are left out", async () => {
    for (const name of ["a/one", "a/b/two", "three", "empty"]) {
      await storage.file(`tree/${name}`, name === "empty" ? "" : name);
    }
    await symlink("/nowhere", join(storage.user, "tree/broken"));
    const tree = join(storage.user, "tree");
    const put = await storage.skep.skep(["object", "put", "-r", tree, "data/tree"]);
    assert.match(put.stderr, /left out .*broken/);
    for (const evil of ["tree/../../evil", "tree/./evil", "tree//evil"]) {
      await storage.skep.skep(["object", "put", "-", `data/${evil}`], { input: "evil" });
    }
    const target = join(storage.user, "deep/out");
    await mkdir(target, { recursive: true });
    const got = await storage.skep.skep(["object", "get", "-r", "data/tree/", target]);
    assert.equal(got.stderr.match(/left out/g)?.length, 3);
    const files = (await readdir(target, { recursive: true, withFileTypes: true }))
      .filter((entry) => entry.isFile())
      .map((entry) => join(entry.parentPath, entry.name).slice(target.length + 1));
    assert.deepEqual(files.sort(), ["a/b/two", "a/one", "empty", "three"]);
    assert.equal(await readFile(join(target, "a/b/two"), "utf8"), "a/b/two");
    const removed = await storage.skep.skep(["object", "rm", "-r", "data/tree/"]);
    assert.match(removed.stdout, /7 objects removed/);
  });

  it("says what is wrong, and a file that was there stays", async () => {
    const file = await storage.file("kept", "kept");
    const fail = async (args: string[], pattern: RegExp, status = 1) => {
      assert.match((await storage.skep.skep(["object", ...args], { status })).stderr, pattern);
    };
    await fail(["get", "data/none", file], /"data\/none" does not exist/);
    assert.equal(await readFile(file, "utf8"), "kept");
    await fail(["get", "nowhere/none", file], /bucket "nowhere" does not exist/);
    await fail(["rm", "data/none"], /does not exist/);
    await fail(["put", "/none", "data/x"], /cannot read \/none/, 2);
    await fail(["put", storage.user, "data/x"], /directory; -r/, 2);
    await fail(["put", file], /needs a file and/, 2);
    await fail(["get", "data"], /names no object/, 2);
    await fail(["ls", "../etc"], /does not begin with a bucket's name/, 2);
    await fail(["put", "-", `data/${"k".repeat(1025)}`], /1025|too long|1024/);
    assert.match(
      (await storage.skep.skep(["bucket", "create", "Not_Allowed"], { status: 2 })).stderr,
      /is not allowed/,
    );
  });

  it("doctor finds an object whose bytes have changed on disk, and reading it is an error", async () => {
    await storage.skep.skep([
      "object",
      "put",
      await storage.file("victim", randomBytes(1024 * 1024)),
      "data/victim",
    ]);
    const blobs = join(storage.skep.home, "objects/blobs");
    const all = (await readdir(blobs, { recursive: true, withFileTypes: true })).filter((entry) =>
      entry.isFile(),
    );
    const stats = await Promise.all(
      all.map(async (entry) => ({
        path: join(entry.parentPath, entry.name),
        ...(await stat(join(entry.parentPath, entry.name))),
      })),
    );
    const victim = stats.sort((one, other) => other.mtimeMs - one.mtimeMs)[0]!.path;
    const bytes = await readFile(victim);
    bytes[500_000]! ^= 1;
    await writeFile(victim, bytes);
    const target = join(storage.user, "victim.back");
    const got = await storage.skep.skep(["object", "get", "data/victim", target], { status: 1 });
    assert.match(got.stderr, /data\/victim/);
    await assert.rejects(stat(target), { code: "ENOENT" });
    const { stdout } = await storage.skep.skep(["doctor", "--json"], { status: null });
    const found = (JSON.parse(stdout) as { name: string; status: string; detail: string }[]).find(
      ({ name }) => name === "objects",
    );
    assert.equal(found?.status, "failed");
    assert.match(found?.detail ?? "", /victim/);
  });
});

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
    await new Promise<void>((resolve) =>
      late.listen(Number(new URL(storage.endpoint).port), "127.0.0.1", resolve),
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

/** Object storage as its users meet it: through `skep auth`, AWS tools, keys and accounts. */
import assert from "node:assert/strict";
import { chmod, readdir, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { Storage } from "./storage.ts";
import { eventually } from "./support.ts";

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

/** `skep object` and `skep bucket`: no endpoint, no key. */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { mkdir, readdir, readFile, stat, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { digest, Storage } from "./storage.ts";
import { Installation } from "./support.ts";

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

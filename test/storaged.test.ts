/** storaged and skepd: what becomes of S3 when one of them dies, moves or is told to. */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { readdir, readFile } from "node:fs/promises";
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
});

import assert from "node:assert/strict";
import { mkdir, readdir, readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import type { Storage } from "@skep/api/schemas";
import { answers, runtimeDirectory, storageFile, storageSocket } from "@skep/base";
import { callJson } from "@skep/daemon";
import { DaemonHome } from "@skep/daemon/testing";
import { checkConfig, defaultConfig } from "./config.ts";

/** A home with as many storageds as a test wants; all are gone afterwards. */
class Home extends DaemonHome {
  constructor() {
    super(join(import.meta.dirname, "main.ts"));
  }

  async start() {
    const running = this.run();
    while (!(await answers(this.socket))) {
      assert.equal(running.child.exitCode, null);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    return running;
  }

  get socket(): string {
    return storageSocket(this.home, this.environment);
  }

  configure(body: object): Promise<Storage> {
    return callJson<Storage>(this.socket, { method: "PUT", path: "/config", body });
  }
}

test("it says who it is, and an end by SIGTERM leaves nothing in the runtime directory", async () => {
  await using home = new Home();
  const { child, ended } = await home.start();
  while ((await stat(storageFile(home.home, home.environment)).catch(() => undefined)) === undefined) {
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  const info = JSON.parse(await readFile(storageFile(home.home, home.environment), "utf8"));
  assert.equal(info.pid, child.pid);
  assert.equal((await stat(home.socket)).mode & 0o777, 0o600);
  child.kill("SIGTERM");
  assert.deepEqual(await ended, { status: 0, stderr: "" });
  assert.deepEqual(await readdir(runtimeDirectory(home.home, home.environment)), []);
});

test("a second one on the same home is told who holds it, and wrong arguments are usage errors", async () => {
  await using home = new Home();
  const { child } = await home.start();
  const second = await home.run().ended;
  assert.equal(second.status, 3);
  assert.match(second.stderr, /storaged runs already for/);
  assert.equal(child.exitCode, null);
  assert.equal((await home.run("--odd").ended).status, 2);
});

test("what it is told holds after a restart, and a configuration of a later version is refused", async () => {
  await using home = new Home();
  const first = await home.start();
  const up = await home.configure({ up: true, listen: "127.0.0.1:0", domain: "S3.Example.org." });
  assert.equal(up.domain, "s3.example.org");
  assert.equal(up.endpoint, `https://${up.listen}`);
  // An address of the same port that cannot be had leaves the endpoint where it is.
  const port = new URL(up.endpoint as string).port;
  await assert.rejects(home.configure({ listen: `192.0.2.1:${port}` }), { code: "LISTEN_FAILED" });
  assert.equal((await home.configure({})).endpoint, up.endpoint);
  assert.equal((await home.configure({ http: true })).endpoint, `http://127.0.0.1:${port}`);
  await home.configure({ http: false });
  await callJson(home.socket, { method: "POST", path: "/shutdown" });
  assert.equal((await first.ended).status, 0);
  const again = await home.start();
  assert.equal((await home.configure({})).endpoint, up.endpoint);
  again.child.kill("SIGTERM");
  await again.ended;
  await mkdir(home.home, { recursive: true });
  await writeFile(join(home.home, "storage.json"), '{"version":2}');
  const later = await home.run().ended;
  assert.deepEqual([later.status, /has version 2/.test(later.stderr)], [1, true]);
});

test("addresses, domains and regions that are none are refused", () => {
  for (const change of [{ listen: "8443" }, { listen: "a:99999" }]) {
    assert.throws(() => checkConfig({ ...defaultConfig, ...change }), { code: "LISTEN_INVALID" });
  }
  for (const domain of ["", "local", "1.2.3.4", "a b.c", "-a.b", "a..b", "*.a.b", `${"a.".repeat(120)}b`]) {
    assert.throws(() => checkConfig({ ...defaultConfig, domain }), { code: "DOMAIN_INVALID" }, domain);
  }
  for (const region of ["", "x", "US", "a/b", "x".repeat(33)]) {
    assert.throws(() => checkConfig({ ...defaultConfig, region }), { code: "REGION_INVALID" }, region);
  }
});

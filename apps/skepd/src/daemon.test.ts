import assert from "node:assert/strict";
import { chmod, mkdir, readFile, rm, stat, symlink, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { ApiClient } from "@skep/api";
import { controlSocket, daemonFile, runtimeDirectory } from "@skep/base";
import { DaemonHome, type RunningDaemon } from "@skep/daemon/testing";

/** A home of its own, with as many daemons as a test wants; all are gone afterwards. */
class Home extends DaemonHome {
  constructor() {
    super(join(import.meta.dirname, "test-daemon.ts"));
  }

  get socket(): string {
    return controlSocket(this.home, this.environment);
  }

  client(): ApiClient {
    return new ApiClient({ socket: this.socket });
  }

  /** Starts one and waits until it answers. */
  async start(...args: string[]): Promise<RunningDaemon> {
    const running = this.run(...args);
    let over: { status: number | null; stderr: string } | undefined;
    running.ended.then(
      (end) => {
        over = end;
      },
      () => {},
    );
    for (;;) {
      await using client = this.client();
      const version = await client.call("version").catch(() => undefined);
      const ready = await stat(daemonFile(this.home, this.environment)).catch(() => undefined);
      if (version?.pid === running.child.pid && ready !== undefined) return running;
      if (over !== undefined) throw new Error(`skepd ended with ${over.status}: ${over.stderr}`);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }
}

test("it says who it is, and an end by SIGTERM leaves nothing behind", async () => {
  await using home = new Home();
  const { child, ended } = await home.start();
  const info = JSON.parse(await readFile(daemonFile(home.home, home.environment), "utf8"));
  assert.equal(info.pid, child.pid);
  assert.equal(info.socket, home.socket);
  assert.equal((await stat(home.socket)).mode & 0o777, 0o600);
  child.kill("SIGTERM");
  assert.deepEqual(await ended, { status: 0, stderr: "" });
  await assert.rejects(stat(home.socket), { code: "ENOENT" });
  await assert.rejects(stat(daemonFile(home.home, home.environment)), { code: "ENOENT" });
  assert.match(await readFile(join(home.home, "skepd.log"), "utf8"), /"msg":"ended"/);
});

test("a second one on the same home is told who holds it, and harms nothing", async () => {
  await using home = new Home();
  const first = await home.start();
  const { status, stderr } = await home.run().ended;
  assert.equal(status, 3);
  assert.match(stderr, new RegExp(`runs already for ${home.home}: pid ${first.child.pid}`));
  await using client = home.client();
  assert.equal((await client.call("version")).pid, first.child.pid);
});

test("of several started at once, one serves", async () => {
  await using home = new Home();
  const all = [home.run(), home.run(), home.run()];
  const ends = await Promise.race([
    Promise.all(all.map(({ ended }) => ended)),
    (async () => {
      let over = 0;
      for (const { ended } of all) void ended.then(() => (over += 1));
      while (over < 2) await new Promise((resolve) => setTimeout(resolve, 20));
      return undefined;
    })(),
  ]);
  assert.equal(ends, undefined);
  await using client = home.client();
  const winner = all.find(({ child }) => child.exitCode === null);
  for (;;) {
    const version = await client.call("version").catch(() => undefined);
    if (version !== undefined) {
      assert.equal(version.pid, winner?.child.pid);
      break;
    }
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
});

test("after kill -9 the next one starts at once, and undoes the job that was half done", async () => {
  await using home = new Home();
  const first = await home.start();
  await using client = home.client();
  await client.job("createMachine", { body: { name: "kept" } });
  const job = await client.call("createMachine", { body: { name: "half", userData: "hang" } });
  while ((await client.call("listMachines", {})).length < 2)
    await new Promise((resolve) => setImmediate(resolve));
  // A client that follows the job sees its end, over the death of the daemon.
  const following = client.follow(job.id);
  first.child.kill("SIGKILL");
  await first.ended;
  await Promise.all([assert.rejects(following, { code: "JOB_INTERRUPTED" }), home.start()]);
  const names = (await client.call("listMachines", {})).map(({ name }) => name);
  assert.deepEqual(names, ["kept"]);
  assert.equal((await client.call("getJob", { path: { id: job.id } })).state, "failed");
});

test("a graceful end cancels running jobs and waits until they are undone", async () => {
  await using home = new Home();
  const first = await home.start();
  await using client = home.client();
  const job = await client.call("createMachine", { body: { name: "half", userData: "hang" } });
  await client.call("shutdown");
  assert.equal((await first.ended).status, 0);
  await home.start();
  assert.equal((await client.call("getJob", { path: { id: job.id } })).state, "cancelled");
  assert.deepEqual(await client.call("listMachines", {}), []);
});

test("the TLS address is kept over restarts", async () => {
  await using home = new Home();
  const first = await home.start();
  await using client = home.client();
  const { listen } = await client.call("setListen", { body: { address: "127.0.0.1:0" } });
  assert.ok(listen);
  first.child.kill("SIGTERM");
  await first.ended;
  await home.start();
  assert.equal((await client.call("version")).listen, listen);
});

test("a runtime directory that somebody else laid out is refused", async () => {
  await using home = new Home();
  const runtime = runtimeDirectory(home.home, home.environment);
  await mkdir(dirname(runtime), { recursive: true });
  await symlink("/tmp", runtime);
  const linked = await home.run().ended;
  assert.deepEqual([linked.status, /symbolic link/.test(linked.stderr)], [1, true]);
  await rm(runtime);
  await mkdir(runtime);
  await chmod(runtime, 0o777);
  const open = await home.run().ended;
  assert.deepEqual([open.status, /others may write/.test(open.stderr)], [1, true]);
});

test("a configuration of a later version is refused, and wrong arguments are usage errors", async () => {
  await using home = new Home();
  await mkdir(home.home);
  await writeFile(join(home.home, "config.json"), '{"version":2}');
  const later = await home.run().ended;
  assert.deepEqual([later.status, /has version 2/.test(later.stderr)], [1, true]);
  assert.equal((await home.run("--odd").ended).status, 2);
  assert.equal((await home.run("--listen", "nowhere").ended).status, 2);
});

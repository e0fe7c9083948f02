/** Volumes whose store is another host's, which goes away and comes back. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { describe, it } from "node:test";
import type { Volume } from "@skep/api/schemas";
import { run } from "@skep/base";
import { eventually } from "./support.ts";
import { mebibyte, VolumeHost } from "./volumes.ts";

/** A host whose volume `far` is in another host's store. */
async function farVolume(store: VolumeHost, endpoint: string): Promise<VolumeHost> {
  const { stdout } = await store.installation.skep(["key", "create", "-q"]);
  const [id = "", secret = ""] = stdout.trim().split(" ");
  const host = await VolumeHost.make();
  try {
    const env = { AWS_ACCESS_KEY_ID: id, AWS_SECRET_ACCESS_KEY: secret };
    await host.vol(["add", "--size", "64M", "--name", "far", "--endpoint-url", endpoint], { env });
    return host;
  } catch (error) {
    await host[Symbol.asyncDispose]();
    throw error;
  }
}

async function runningJobs(host: VolumeHost): Promise<number> {
  return (await host.installation.skep(["jobs", "ls", "-q"])).stdout.split("\n").filter(Boolean).length;
}

describe("volumes on another host's store", { concurrency: false }, () => {
  it("are made with a profile's keys, behave the same, and are taken up by a third", async () => {
    await using store = await VolumeHost.make();
    const endpoint = (await store.installation.skep(["up", "-q", "--listen", "127.0.0.1:0"])).stdout.trim();
    const [id = "", secret = ""] = (await store.installation.skep(["key", "create", "-q"])).stdout
      .trim()
      .split(" ");
    const authority = join(store.installation.home, "tls/ca.pem");
    const place = ["--endpoint-url", endpoint, "--ca-bundle", authority];
    await using one = await VolumeHost.make();
    assert.match(
      await one.refusal("add", "--size", "1G", ...place),
      /profile "default" has no key for https:.*\n {2}write one into it: skep auth/,
    );
    const keys = { AWS_ACCESS_KEY_ID: id, AWS_SECRET_ACCESS_KEY: secret };
    const wrong = { ...keys, AWS_SECRET_ACCESS_KEY: "wrong" };
    const refused = await one.vol(["add", "--size", "1G", ...place], { env: wrong, status: 1 });
    assert.match(refused.stderr, /SignatureDoesNotMatch/);
    assert.deepEqual(await one.list(), []);
    await one.installation.skep([
      ...["auth", "--profile", "far", "--access-key", id, "--secret-key", secret, ...place],
    ]);
    const disk = await one.disk(32 * mebibyte);
    await one.vol(["import", disk, "--name", "data", "--profile", "far"]);
    const [volume] = (await one.list()) as [Volume];
    assert.deepEqual(volume.store, { endpoint, bucket: "skep-volumes" });
    assert.doesNotMatch(
      await readFile(join(one.installation.home, "stores.json"), "utf8"),
      new RegExp(secret),
    );
    const address = await one.serve("data");
    await run("qemu-io", ["-f", "raw", "-c", "write -P 5 1M 1M", "-c", "flush", address]);
    await run("qemu-io", ["-f", "raw", "-c", "write -P 5 1M 1M", disk]);

    await using other = await VolumeHost.make();
    const take = ["add", "--existing", volume.id, "--name", "taken", ...place];
    const taken = await other.vol(take, { env: keys });
    assert.equal(taken.stdout.trim(), volume.id);
    const busy = { machine: "test", owner: null, everyWriteFua: false };
    await assert.rejects(other.ask("POST", "/volumes/taken/serve", busy), { code: "VOLUME_IN_USE" });
    await one.release("data");
    await other.serve("taken");
    await other.vol(["export", "taken", join(await other.directory(), "out.qcow2")]);
    const out = join(await other.directory(), "out.raw");
    await other.vol(["export", "taken", out]);
    await other.same(disk, out);
    // What is fenced says so, and is served no more.
    await other.release("taken");
    await one.serve("data");
    await other.ask("POST", "/volumes/taken/take-over");
    const cut = await run("qemu-io", ["-f", "raw", "-c", "write -P 6 0 1M", "-c", "flush", address], {
      okStatuses: [0, 1],
    });
    await eventually(
      async () => /has taken it over/.test((await one.show("data")).problem ?? ""),
      () => `the fenced volume has no problem: ${cut.stdout}${cut.stderr}`,
      30_000,
    );
    await one.release("data");
    await one.installation.skep(["down"]);
    await other.vol(["rm", "taken"]);
    await rm(out);
  });

  it("a store that does not answer is told, and keeps nobody from the other volumes", async () => {
    await using store = await VolumeHost.make();
    const endpoint = (
      await store.installation.skep(["up", "-q", "--http", "--listen", "127.0.0.1:0"])
    ).stdout.trim();
    await using host = await farVolume(store, endpoint);
    await host.add("--size", "64M", "--name", "near");
    await store.installation.skep(["down"]);
    const volumes = await host.list();
    assert.deepEqual(
      volumes.map(({ name, state, sizeBytes }) => [name, state, sizeBytes]),
      [
        ["far", "unreadable", 64 * mebibyte],
        ["near", "available", 64 * mebibyte],
      ],
    );
    assert.match((await host.installation.skep(["doctor"], { status: 1 })).stdout, /failed +volume far /);
    await host.vol(["rm", "near"]);
  });

  it("a verb is given up while the store is gone, says so, and works when it is back", async () => {
    await using store = await VolumeHost.make();
    const up = async (listen: string) =>
      (await store.installation.skep(["up", "-q", "--http", "--listen", listen])).stdout.trim();
    const endpoint = await up("127.0.0.1:0");
    await using host = await farVolume(store, endpoint);
    const address = await host.serve("far");
    await store.installation.skep(["down"]);
    await run("qemu-io", ["-f", "raw", "-c", "write -P 5 0 1M", "-c", "flush", address]);
    const taking = host.installation.spawn(["vol", "snapshot", "far", "--name", "then"]);
    const said = text(taking.stderr);
    const ended = once(taking, "close");
    await eventually(
      async () => (await host.show("far")).problem !== null && (await runningJobs(host)) === 1,
      () => "the volume does not say that its store does not answer",
    );
    const { problem } = await host.show("far");
    for (const verb of [["ls"], ["show", "far"]]) {
      assert.ok(
        (await host.vol(verb)).stdout.includes(problem as string),
        `${verb} does not tell: ${problem}`,
      );
    }
    taking.kill("SIGINT");
    assert.notDeepEqual(await ended, [0, null]);
    assert.match(await said, /cancelled; the store of "far" does not answer .* is left to itself/);
    assert.match(await said, /skep vol show far/);
    await run("qemu-io", ["-f", "raw", "-c", "read -P 5 0 1M", address]);

    await up(new URL(endpoint).host);
    await host.vol(["snapshot", "far", "--name", "again"]);
    await run("qemu-io", ["-f", "raw", "-c", "read -P 5 0 1M", address]);
    assert.equal((await host.show("far")).problem, null);
    await host.release("far");
    await host.vol(["rm", "far", "--snapshots"]);
  });
});

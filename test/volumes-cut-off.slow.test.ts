/** Volumes whose daemons end, or whose verbs are cut off. */
import assert from "node:assert/strict";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, it } from "node:test";
import { run } from "@skep/base";
import { eventually } from "./support.ts";
import { mebibyte, PatientClient, VolumeHost } from "./volumes.ts";

async function begun(host: VolumeHost): Promise<void> {
  await eventually(
    async () => (await host.list())[0]?.state === "filling",
    () => "the import never began",
  );
}

describe("volumes that are cut off", { concurrency: false }, () => {
  it("an import that is cancelled, or whose skepd is killed, leaves no volume", async () => {
    await using host = await VolumeHost.make();
    const disk = await host.disk(64 * mebibyte);
    const begin = () => host.vol(["import", disk, "--name", "slow", "--bandwidth", "64K"], { status: null });
    const first = begin();
    await begun(host);
    assert.match(await host.refusal("snapshot", "slow"), /is being filled/);
    const job = (await host.installation.skep(["jobs", "ls", "-q"])).stdout.trim();
    await host.installation.skep(["jobs", "cancel", job]);
    assert.notEqual((await first).status, 0);
    assert.deepEqual(await host.list(), []);

    const second = begin();
    await begun(host);
    await host.installation.killDaemon();
    await second;
    await eventually(
      async () => (await host.list()).length === 0,
      () => "the killed skepd's volume stays",
    );
  });

  it("clients go on after kill -9 of storaged, with all that it had acknowledged", async () => {
    await using host = await VolumeHost.make();
    const id = await host.add("--size", "256M");
    const address = await host.serve(id);
    await using client = new PatientClient(address);
    await client.command("write -P 1 0 1M");
    for (let round = 1; round <= 3; round += 1) {
      const writing = client.command(`write -P ${round + 10} ${round}M 1M`);
      await host.installation.killStoraged();
      await writing;
      await client.command(`read -P ${round + 10} ${round}M 1M`);
      await client.command("read -P 1 0 1M");
    }
    await client.command("flush");
    const said = await client.command("read -P 13 3M 1M");
    assert.match(said, /read 1048576\/1048576 bytes/);
    assert.match((await host.installation.skep(["doctor"], { status: null })).stdout, /storaged has died/);
  });

  it("a restart of everything opens what was open, and nothing else", async () => {
    await using host = await VolumeHost.make();
    const [open, closed] = [await host.add("--size", "64M"), await host.add("--size", "64M")];
    const address = await host.serve(open);
    await run("qemu-io", ["-f", "raw", "-c", "write -P 7 0 8M", address]);
    await host.installation.killDaemon();
    await host.installation.killStoraged();
    await host.installation.skep(["daemon", "start"]);
    await eventually(
      () => host.installation.storagedPid() !== undefined,
      () => "storaged was not started",
    );
    await run("qemu-io", ["-f", "raw", "-c", "read -P 7 0 8M", address]);
    assert.deepEqual([(await host.show(open)).state, (await host.show(closed)).socket], ["attached", null]);
    // In good order: nothing is waited for, nothing is lost.
    await run("qemu-io", ["-f", "raw", "-c", "write -P 8 8M 8M", address]);
    await host.installation.skep(["down"]);
    assert.notEqual(host.installation.storagedPid(), undefined, "it serves a machine's disk, and stays");
    process.kill(host.installation.storagedPid() as number, "SIGTERM");
    await eventually(
      async () =>
        (await run("qemu-io", ["-f", "raw", "-c", "read -P 8 8M 8M", address], { okStatuses: [0, 1] }))
          .status === 0,
      () => "it was never served again",
    );
    await host.release(open);
    await host.installation.skep(["down"]);
    assert.equal(host.installation.storagedPid(), undefined);
  });

  it("one volume that does not open keeps no other from being served", async () => {
    await using host = await VolumeHost.make();
    const [good, bad] = [await host.add("--size", "64M"), await host.add("--size", "64M", "--name", "bad")];
    const address = await host.serve(good);
    await host.serve(bad);
    const key = `skep-volumes/${bad}/config.json`;
    const file = join(await host.directory(), "config.json");
    await host.installation.skep(["object", "get", key, file]);
    const manifest = JSON.parse(await readFile(file, "utf8"));
    await writeFile(`${file}.new`, JSON.stringify({ ...manifest, Version: 99 }));
    await host.installation.skep(["object", "put", `${file}.new`, key]);
    await host.installation.killStoraged();
    await host.installation.skep(["vol", "ls"]);
    await run("nbdinfo", [address]);
    const shown = await host.show("bad");
    assert.equal(shown.state, "unreadable");
    assert.match(shown.problem ?? "", /has version 99/);
    assert.match(
      (await host.installation.skep(["doctor"], { status: 1 })).stdout,
      /failed +volume bad .*version 99/,
    );
    // Once it can be read again, it is served without anybody's asking.
    await host.installation.skep(["object", "put", file, key]);
    await eventually(
      async () => (await host.show("bad")).state === "attached",
      () => "it was never served again",
    );
  });
});

/** Volumes through the command, storaged and clients of NBD that are not skep's. */
import assert from "node:assert/strict";
import { createReadStream } from "node:fs";
import { readdir, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { buffer } from "node:stream/consumers";
import { describe, it } from "node:test";
import { run } from "@skep/base";
import { eventually } from "./support.ts";
import { mebibyte, VolumeHost } from "./volumes.ts";

describe("volumes", { concurrency: false }, () => {
  it("the seed's line works word for word, and leaves the seed's manifest", async () => {
    await using host = await VolumeHost.make();
    const { installation } = host;
    const { stdout } = await installation.skep(["up", "-q", "--listen", "127.0.0.1:0"]);
    const endpoint = `${stdout.trim().replace("127.0.0.1", "localhost")}/`;
    const key = (await installation.skep(["key", "create", "-q"])).stdout.trim().split(" ") as [
      string,
      string,
    ];
    await installation.skep(["configure", "--endpoint-url", endpoint, "--profile", "hivelocal"]);
    await installation.skep([
      ...["auth", "--access_key", key[0], "--secret_key", key[1], "--profile", "hivelocal"],
      ...["--endpoint-url", endpoint],
    ]);
    const id = await host.add("--size", "128M", "--no-verify-ssl", "--endpoint-url", endpoint, "--");
    const path = `skep-volumes/${id}/config.json`;
    const config = JSON.parse((await installation.skep(["object", "get", path, "-"])).stdout);
    for (const [name, value] of Object.entries({
      VolumeName: id,
      VolumeSize: 134217728,
      BlockSize: 4096,
      ObjBlockSize: 4194304,
      Version: 1,
    })) {
      assert.equal(config[name], value, name);
    }
    for (const name of ["SeqNum", "ObjectNum", "WALNum", "BlockToObjectWALNum"]) {
      assert.equal(typeof config[name], "number", name);
    }
    assert.deepEqual((await host.show(id)).store, { endpoint: null, bucket: "skep-volumes" });
  });

  it("is made, listed, shown, changed and removed; nothing is left", async () => {
    await using host = await VolumeHost.make();
    assert.deepEqual(await host.list(), []);
    const id = await host.add("--size", "20G", "--name", "data", "--durability", "remote", "--iops", "500");
    const volume = await host.show("data");
    assert.deepEqual(await host.list(), [volume]);
    assert.equal(volume.id, id);
    const { state, machine, problem, sizeBytes, durability, iops, bandwidth, encrypted, snapshots } = volume;
    assert.deepEqual(
      { state, machine, problem, sizeBytes, durability, iops, bandwidth, encrypted, snapshots },
      {
        state: "available",
        machine: null,
        problem: null,
        sizeBytes: 20 * 1024 * mebibyte,
        durability: "remote",
        iops: 500,
        bandwidth: null,
        encrypted: false,
        snapshots: [],
      },
    );
    assert.ok((volume.storedBytes ?? 0) < 100_000);
    assert.match((await host.vol(["ls"])).stdout, /^ID +NAME +SIZE.*\nvol-\w+ +data +20 GiB .*available/);
    await host.vol(["set", "data", "--iops", "none", "--bandwidth", "50M", "--name", "other"]);
    const changed = await host.show("other");
    assert.deepEqual([changed.iops, changed.bandwidth, changed.durability], [null, 50 * mebibyte, "remote"]);
    await host.vol(["resize", id, "40G"]);
    assert.equal((await host.show(id)).sizeBytes, 40 * 1024 * mebibyte);
    await host.vol(["rm", "other"]);
    assert.deepEqual(await host.list(), []);
    assert.deepEqual(await readdir(join(host.installation.home, "volumes")), []);
    const left = await host.installation.skep(["object", "ls", "-r", "-q", "skep-volumes"]);
    assert.equal(left.stdout.trim(), "");
  });

  it("says what is wrong with a command, and what to do", async () => {
    await using host = await VolumeHost.make();
    await host.add("--size", "1G", "--name", "data");
    for (const [args, says] of [
      [["add"], /needs --size/],
      [["add", "--size", "20"], /has no unit\n {2}write 20G/],
      [["add", "--size", "1000B"], /no multiple of 4 KiB/],
      [["add", "--size", "17T"], /16T/],
      [["add", "--size", "1G", "--name", "data"], /volume "data" exists already/],
      [["add", "--size", "1G", "--name", "Data!"], /volume name "Data!" is not allowed/],
      [["add", "--size", "1G", "--name", "vol-0123456789abcdef0"], /looks like an id/],
      [["add", "--size", "1G", "--durability", "eternal"], /write local or remote/],
      [["add", "--size", "1G", "--iops", "0"], /is not a whole number above 0/],
      [["add", "--existing", "vol-0123456789abcdef0"], /volume "vol-0123456789abcdef0" does not exist/],
      [["show", "nothing"], /volume "nothing" does not exist\n {2}see: skep vol ls/],
      [["resize", "data", "512M"], /cannot become smaller/],
      [["rm", "nothing"], /does not exist/],
      [["detach", "data"], /attached to no machine/],
      [["attach", "data", "web"], /machine "web" does not exist/],
      [["snapshot", "nothing"], /does not exist/],
      [["snapshot", "rm", "data@nothing"], /snapshot "data@nothing" does not exist/],
      [["clone", "snap-0123456789abcdef0"], /snapshot .* does not exist/],
      [["set", "data"], /nothing to change/],
    ] as const) {
      assert.match(await host.refusal(...args), says, args.join(" "));
    }
    assert.equal((await host.list()).length, 1);
  });

  it("imports and exports qcow2 and raw disks, with their holes", async () => {
    await using host = await VolumeHost.make();
    const raw = await host.disk(64 * mebibyte);
    const directory = await host.directory();
    const qcow2 = join(directory, "disk.qcow2");
    await run("qemu-img", ["convert", "-O", "qcow2", raw, qcow2]);
    for (const [name, file] of [
      ["raw", raw],
      ["qcow2", qcow2],
    ] as const) {
      await host.vol(["import", file, "--name", name]);
      const volume = await host.show(name);
      assert.deepEqual([volume.state, volume.sizeBytes], ["available", 64 * mebibyte]);
      assert.ok((volume.storedBytes ?? 0) < 8 * mebibyte, `${volume.storedBytes} bytes are stored`);
      for (const target of [`${name}-out.qcow2`, `${name}-out.raw`]) {
        const path = join(directory, target);
        await host.vol(["export", name, path]);
        await host.same(raw, path);
        const { blocks, mode } = await stat(path);
        assert.ok(blocks * 512 < 8 * mebibyte, `${target} takes ${blocks * 512} bytes`);
        assert.equal(mode & 0o777, 0o600);
      }
    }
    assert.match(
      await host.refusal("export", "raw", join(directory, "raw-out.raw")),
      /exists already\n {2}choose another file, or replace it: --force/,
    );
    const input = await buffer(createReadStream(raw));
    await host.vol(["import", "-", "--name", "piped", "--size", "1G", "--encrypted"], { input });
    const larger = join(directory, "larger.raw");
    await host.vol(["export", "piped", larger]);
    await run("truncate", ["-s", "64M", larger]);
    await host.same(raw, larger);
    assert.deepEqual(
      (await host.list()).map(({ name }) => name),
      ["raw", "qcow2", "piped"],
    );
  });

  it("refuses a disk that is none or names other files; what fails leaves no volume", async () => {
    await using host = await VolumeHost.make();
    const directory = await host.directory();
    const path = (name: string) => join(directory, name);
    await run("qemu-img", ["create", "-f", "qcow2", path("base.qcow2"), "10M"]);
    await run("qemu-img", [
      "create",
      "-f",
      "qcow2",
      "-F",
      "qcow2",
      "-b",
      path("base.qcow2"),
      path("over.qcow2"),
    ]);
    await run("qemu-img", ["create", "-f", "qcow2", path("huge.qcow2"), "60T"]);
    await writeFile(path("text.raw"), "not a disk");
    for (const [args, says] of [
      [[path("over.qcow2")], /it has a backing file/],
      [[path("huge.qcow2")], /is absurd|16T/],
      [[path("text.raw")], /no multiple of 512/],
      [[path("missing")], /there is no such file/],
      [[directory], /it is no file/],
      [[path("base.qcow2"), "--size", "4M"], /is smaller than the disk/],
    ] as const) {
      assert.match(await host.refusal("import", ...args), says, args.join(" "));
    }
    assert.match(await host.refusal("export", "nothing", path("out")), /does not exist/);
    assert.deepEqual(await host.list(), []);
    assert.deepEqual(
      (await readdir(directory)).filter((name) => /part|out/.test(name)),
      [],
    );
  });

  it("snapshots and clones stay as they were, and are removed in the right order only", async () => {
    await using host = await VolumeHost.make();
    const first = await host.disk(16 * mebibyte);
    const second = await host.disk(16 * mebibyte);
    await host.vol(["import", first, "--name", "data"]);
    const snapshot = (await host.vol(["snapshot", "data", "--name", "monday"])).stdout.trim();
    assert.match(snapshot, /^snap-[0-9a-f]{17}$/);
    const address = await host.serve("data");
    await run("qemu-img", ["convert", "-n", "-O", "raw", "-f", "raw", second, address]);
    const directory = await host.directory();
    await host.vol(["export", "data", join(directory, "now.raw")]);
    await host.same(second, join(directory, "now.raw"));
    await host.vol(["export", "data@monday", join(directory, "then.raw")]);
    await host.same(first, join(directory, "then.raw"));
    await host.vol(["clone", snapshot, "--name", "copy", "--size", "32M"]);
    await host.vol(["clone", "data", "--name", "present"]);
    const copy = await host.show("copy");
    assert.deepEqual([copy.sizeBytes, copy.source?.snapshot], [32 * mebibyte, snapshot]);
    assert.ok((copy.storedBytes ?? 0) < mebibyte);
    await host.vol(["export", "present", join(directory, "present.raw")]);
    await host.same(second, join(directory, "present.raw"));
    assert.match(
      await host.refusal("snapshot", "data", "--name", "monday"),
      /has a snapshot "monday" already/,
    );
    assert.match(await host.refusal("snapshot", "rm", "data@monday"), /is needed by volume/);
    await host.release("data");
    assert.match(await host.refusal("rm", "data"), /needed|snapshots/);
    await host.vol(["rm", "copy", "present"]);
    assert.match(await host.refusal("rm", "data"), /has 2 snapshots\n {2}remove them with it/);
    await host.vol(["snapshot", "rm", snapshot]);
    assert.equal(JSON.parse((await host.vol(["snapshot", "ls", "--json"])).stdout).length, 1);
    await host.vol(["rm", "data", "--snapshots"]);
    assert.deepEqual(await host.list(), []);
  });

  it("is served over NBD under its id to its owner alone, and grows under its clients", async () => {
    await using host = await VolumeHost.make();
    const id = await host.add("--size", "1G", "--name", "data");
    const address = await host.serve("data");
    const info = JSON.parse((await run("nbdinfo", ["--json", address])).stdout).exports[0];
    assert.deepEqual(
      [info["export-size"], info.can_flush, info.can_fua, info.can_trim],
      [2 ** 30, true, true, true],
    );
    const { socket } = await host.show(id);
    assert.equal((await stat(socket as string)).mode & 0o777, 0o600);
    await host.vol(["resize", "data", "2G"]);
    assert.equal((await run("nbdinfo", ["--size", address])).stdout.trim(), `${2 ** 31}`);
    const other = { machine: "other", owner: null, everyWriteFua: false };
    await assert.rejects(host.ask("POST", "/volumes/data/serve", other), { code: "VOLUME_ATTACHED" });
    assert.match(await host.refusal("rm", "data"), /is attached to machine "test"/);
    await host.release("data");
    await assert.rejects(stat(socket as string), { code: "ENOENT" });
    assert.equal((await host.show(id)).state, "available");
  });

  it("limits hold, and change while the volume is in use", async () => {
    await using host = await VolumeHost.make();
    const id = await host.add("--size", "64M", "--iops", "200");
    const address = await host.serve(id);
    const writes = async () => {
      const from = performance.now();
      const commands = Array.from({ length: 200 }, (_, index) => ["-c", `write -q ${index * 4}k 4k`]).flat();
      await run("qemu-io", ["-f", "raw", ...commands, address]);
      return performance.now() - from;
    };
    // What a tenth of a second allows may go at once; a busy machine only makes it later.
    const allowed = await writes();
    assert.ok(allowed > 850, `200 writes in ${allowed} ms`);
    await host.vol(["set", id, "--iops", "100"]);
    const less = await writes();
    assert.ok(less > 1850, `200 writes in ${less} ms`);
    await host.vol(["set", id, "--iops", "none"]);
    await writes();
  });

  it("check finds what is damaged, and which bytes that costs; gc frees what is dead", async () => {
    await using host = await VolumeHost.make();
    await host.vol(["import", await host.disk(16 * mebibyte), "--name", "data"]);
    assert.match((await host.vol(["check", "data"])).stdout, /is whole: \d+ blocks/);
    const { id } = await host.show("data");
    const { stdout } = await host.installation.skep([
      "object",
      "ls",
      "-r",
      "-q",
      `skep-volumes/${id}/chunks/`,
    ]);
    await host.installation.skep(["object", "rm", `skep-volumes/${stdout.split("\n")[0]}`]);
    const report = JSON.parse((await host.vol(["check", "data", "--json"], { status: 1 })).stdout);
    assert.equal(report.volume, id);
    assert.ok(report.findings.some(({ lost }: { lost: unknown[] }) => lost.length > 0));
    const collected = JSON.parse(
      (await host.vol(["gc", "data", "--json"], { status: null })).stdout || "null",
    );
    if (collected !== null)
      assert.deepEqual(Object.keys(collected).sort(), ["deletedBytes", "deletedObjects", "rewrittenBytes"]);
  });

  it("metrics tell of each volume", async () => {
    await using host = await VolumeHost.make();
    const id = await host.add("--size", "64M", "--name", "data");
    const { stdout } = await host.installation.command("curl", [
      "-s",
      "--unix-socket",
      join(host.installation.runtime, "skepd.sock"),
      "http://skep/metrics",
    ]);
    assert.match(stdout, new RegExp(`^skep_volume_size_bytes{volume="${id}",name="data"} 67108864$`, "m"));
    assert.match(stdout, /^skep_volume_problem\{.*\} 0$/m);
  });

  it("a running machine is given a volume, keeps it over the death of storaged, and gives it up", async () => {
    await using host = await VolumeHost.make(["tiny"]);
    await host.installation.skep(["new", "web", "-i", "tiny", "--start"]);
    const id = await host.add("--size", "64M", "--name", "data");
    const { stderr } = await host.vol(["attach", "data", "web"]);
    assert.match(stderr, /in web it is \/dev\/disk\/by-id\/virtio-/);
    const connected = async () => (await host.show(id)).statistics?.clients === 1;
    assert.ok(await connected(), "QEMU is not connected");
    await host.installation.killStoraged();
    await host.vol(["resize", "data", "128M"]);
    await eventually(connected, () => "QEMU has not connected again");
    assert.deepEqual(
      (await host.installation.machine("web")).volumes.map((one) => one.sizeBytes),
      [128 * mebibyte],
    );
    await host.vol(["detach", "data", "--force"]);
    const { state, socket, owner } = await host.show(id);
    assert.deepEqual([state, socket, owner], ["available", null, null]);
  });

  it("a stopped machine has its volumes; neither goes while the other needs it", async () => {
    await using host = await VolumeHost.make(["tiny"]);
    await host.installation.skep(["new", "web", "-i", "tiny"]);
    const id = await host.add("--size", "64M", "--name", "data");
    await host.vol(["attach", "data", "web"]);
    const { state, machine } = await host.show("data");
    assert.deepEqual([state, machine], ["attached", "web"]);
    assert.deepEqual(
      (await host.installation.machine("web")).volumes.map((one) => one.id),
      [id],
    );
    assert.match(await host.refusal("attach", "data", "web"), /is attached to machine "web"/);
    assert.match(
      await host.refusal("rm", "data"),
      /attached to machine "web"\n {2}detach it there first: skep vol detach data/,
    );
    await host.vol(["detach", "data"]);
    await host.vol(["attach", "data", "web"]);
    await host.vol(["rm", "--force", "data"]);
    assert.deepEqual((await host.installation.machine("web")).volumes, []);
    assert.deepEqual(await host.list(), []);
  });
});

import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdir, readdir, readFile, rename, rm, symlink, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import type { Job } from "@skep/api";
import { processStartTime, run } from "@skep/base";
import { eventually, Installation } from "./support.ts";

let skep: Installation;
before(async () => {
  skep = await Installation.make();
});
after(() => skep[Symbol.asyncDispose]());

const tiny = ["--image", "tiny", "--memory", "128M", "--cpus", "1"];
// A name is refused before skepd, which makes the directory, is even started.
const machinesOnDisk = () => readdir(join(skep.home, "machines")).catch(() => []);

describe("a new machine is refused, and nothing is left, for", () => {
  const refused: [string, string[], RegExp][] = [
    ["a name that is a path", ["../etc"], /path/],
    ["a name in unicode", ["wéb"], /ASCII/],
    ["a name that is too long", ["x".repeat(80)], /80 characters/],
    ["a disk of 0", ["a", "--disk", "0"], /"0"/],
    ["a negative size", ["a", "--memory=-1G"], /-1G/],
    ["a disk larger than the host's", ["a", "--image", "tiny", "--cdrom", "/none", "--disk", "9P"], /./],
    [
      "a data disk larger than the host's",
      ["a", ...tiny, "--data-disk", "900T"],
      /larger than the whole file system/,
    ],
    [
      "more memory than the host has",
      ["a", "--image", "tiny", "--memory", "900G"],
      /more than this host has/,
    ],
    ["an image that is not there", ["a", "--image", "nothing-1"], /nothing-1/],
    ["a base that is not there", ["a", "--from", "nobody"], /"nobody" does not exist/],
    ["an ISO that is not there", ["a", "--cdrom", "/no/such.iso"], /no\/such\.iso/],
    ["a shared folder", ["a", "--mount", "/home:/home"], /shared folders/i],
    ["an unknown flag", ["a", "--imgae", "tiny"], /--image/],
    ["user-data that is not YAML", ["a", ...tiny, "--user-data", "-"], /YAML/],
    ["an environment variable of two lines", ["a", ...tiny, "--env", "A=1\n2"], /line/],
  ];
  for (const [what, args, message] of refused) {
    it(what, async () => {
      const { status, stderr } = await skep.skep(["new", ...args], {
        status: null,
        input: "#cloud-config\nusers: [\n",
      });
      assert.ok(status === 1 || status === 2, `status ${status}: ${stderr}`);
      assert.match(stderr, message);
      assert.deepEqual(await machinesOnDisk(), []);
    });
  }

  it("a name that is taken; of two at once exactly one is made", async () => {
    const both = await Promise.all([
      skep.skep(["new", "twin", ...tiny], { status: null }),
      skep.skep(["new", "twin", ...tiny], { status: null }),
    ]);
    assert.deepEqual(both.map(({ status }) => status).sort(), [0, 1]);
    assert.match(both.find(({ status }) => status === 1)?.stderr ?? "", /"twin" exists already/);
    assert.deepEqual(await machinesOnDisk(), ["twin"]);
    await skep.skep(["rm", "twin"]);
  });
});

describe("two new machines at once", () => {
  it("do not get one port, nor one user", async () => {
    const make = (name: string, port: string) =>
      skep.skep(["new", name, ...tiny, "--publish", port], { status: null });
    const both = await Promise.all([make("one", "28123:80"), make("two", "28123:80")]);
    assert.deepEqual(both.map(({ status }) => status).sort(), [0, 1]);
    assert.match(both.map(({ stderr }) => stderr).join(""), /28123.*(published already|in use)/);
    await skep.skep(["rm", "--all"]);
    await Promise.all(["a", "b", "c", "d"].map((name) => make(name, "0:80")));
    const files = await Promise.all(
      ["a", "b", "c", "d"].map(async (name) =>
        JSON.parse(await readFile(join(skep.home, "machines", name, "machine.json"), "utf8")),
      ),
    );
    assert.equal(new Set(files.map(({ ports }) => ports[0].hostPort)).size, 4);
    if (process.getuid?.() === 0) assert.equal(new Set(files.map(({ uid }) => uid)).size, 4);
    await skep.skep(["rm", "--all"]);
  });
});

describe("a machine whose files were changed", () => {
  it("is shown as damaged when its machine.json is, and can be removed", async () => {
    await skep.skep(["new", "bad", ...tiny]);
    await skep.killDaemon();
    await truncate(join(skep.home, "machines/bad/machine.json"), 40);
    assert.match((await skep.skep(["ls"])).stdout, /bad\s+damaged/);
    const { stderr } = await skep.skep(["start", "bad"], { status: 1 });
    assert.match(stderr, /machine\.json.*not JSON/);
    await skep.skep(["rm", "bad"], { status: 1 });
    await skep.skep(["rm", "--force", "bad"]);
    assert.deepEqual(await machinesOnDisk(), []);
  });

  it("is refused by name when its file is of another version", async () => {
    await skep.skep(["new", "future", ...tiny]);
    await skep.killDaemon();
    await writeFile(join(skep.home, "machines/future/machine.json"), '{"version": 99}');
    const { stderr } = await skep.skep(["start", "future"], { status: 1 });
    assert.match(stderr, /version 99/);
    await skep.skep(["rm", "--force", "future"]);
  });

  it("is forgotten when its directory was removed by hand", async () => {
    await skep.skep(["new", "gone", ...tiny]);
    await rm(join(skep.home, "machines/gone"), { recursive: true });
    assert.deepEqual(await skep.machines(), []);
    await skep.skep(["new", "gone", ...tiny]);
    await skep.skep(["rm", "gone"]);
  });

  it("is still stopped by rm --force when it runs", async () => {
    await skep.skep(["new", "gone", ...tiny, "--start"]);
    await rm(join(skep.home, "machines/gone"), { recursive: true });
    assert.match((await skep.machine("gone")).reason ?? "", /was removed/);
    await skep.skep(["rm", "--force", "gone"]);
    assert.deepEqual(await skep.qemuPids(), []);
  });

  it("shows QEMU's own words when QEMU cannot start", async () => {
    await skep.skep(["new", "broken", ...tiny, "--data-disk", "1G"]);
    await truncate(join(skep.home, "machines/broken/data-0.qcow2"), 100);
    const { stderr } = await skep.skep(["start", "broken"], { status: 1 });
    assert.match(stderr, /data-0/);
    assert.equal((await skep.machine("broken")).state, "stopped");
    assert.deepEqual(await skep.qemuPids(), []);
    await skep.skep(["rm", "broken"]);
  });
});

describe("a host without QEMU", () => {
  it("is told the package", async () => {
    await using bare = await Installation.make();
    const bin = join(bare.home, "bin");
    await mkdir(bin);
    // Everything but QEMU; the launcher has checked the system packages before.
    for (const name of await readdir("/usr/bin")) {
      if (!name.startsWith("qemu-system-")) await symlink(join("/usr/bin", name), join(bin, name));
    }
    const { stderr } = await bare.skep(["new", "a", ...tiny], { status: 1, env: { PATH: bin } });
    assert.match(stderr, /qemu-system-\S+ is not installed\n.*apt-get install qemu-system/);
  });
});

describe("Ctrl-C", () => {
  it("while a machine is waited for leaves it running, and says so by its state", async () => {
    await skep.skep(["new", "slow", ...tiny]);
    const child = skep.spawn(["start", "slow", "--wait"]);
    await eventually(
      async () => (await skep.machine("slow")).state === "running",
      () => "it never ran",
    );
    child.kill("SIGINT");
    const [status] = await once(child, "exit");
    assert.ok(status === 130 || status === 0, `status ${status}`);
    assert.equal((await skep.machine("slow")).state, "running");
    await skep.skep(["rm", "--force", "slow"]);
  });

  it("during new leaves nothing, unless it came too late", async () => {
    for (const delayMs of [0, 100, 200, 300, 400]) {
      const name = `maybe-${delayMs}`;
      const child = skep.spawn(["new", name, ...tiny, "--start"]);
      setTimeout(() => child.kill("SIGINT"), delayMs);
      await once(child, "exit");
      // After the job has ended, before its result is printed, the signal ends the command alone.
      const [job] = JSON.parse((await skep.skep(["jobs", "ls", "--all", "--json"])).stdout) as Job[];
      const made = job?.subject === name && job.state === "succeeded";
      assert.deepEqual(await machinesOnDisk(), made ? [name] : []);
      assert.equal((await skep.machines()).length, made ? 1 : 0);
      if (made) await skep.skep(["rm", "--force", name]);
      assert.deepEqual(await skep.qemuPids(), []);
    }
  });
});

describe("a full disk", {
  skip: process.getuid?.() !== 0 ? "needs root to mount a small file system" : false,
}, () => {
  it("pauses the machine, says so, and lets it go on once there is room", async () => {
    await using small = await Installation.make();
    const machines = join(small.home, "machines");
    await mkdir(machines, { recursive: true });
    await run("mount", ["-t", "tmpfs", "-o", "size=96m,mode=711", "tmpfs", machines]);
    try {
      await small.skep(["new", "full", ...tiny, "--data-disk", "1G", "--start", "--wait"]);
      const ballast = join(machines, "ballast");
      await run("dd", ["if=/dev/zero", `of=${ballast}`, "bs=1M", "count=60"]);
      const writing = small.skep([
        "exec",
        "full",
        "--",
        "sh",
        "-c",
        "dd if=/dev/urandom of=/dev/vda bs=1M count=50 conv=fsync && echo written",
      ]);
      await small.until(
        "full",
        ({ state, reason }) => state === "paused" && reason === "disk full",
        "paused",
      );
      assert.match((await small.skep(["ls"])).stdout, /paused \(disk full\)/);
      await rm(ballast);
      assert.match((await writing).stdout, /written/);
      assert.equal((await small.machine("full")).state, "running");
      await small.skep(["rm", "--force", "full"]);
    } finally {
      await small.skep(["daemon", "stop"], { status: null });
      await run("umount", ["-l", machines]);
    }
  });
});

describe("skepd killed in the middle", () => {
  it("of making a machine leaves a whole one or none, and no stray QEMU", async () => {
    for (const delayMs of [30, 60, 90, 120, 200]) {
      await skep.machines(); // skepd runs
      const ended = once(skep.spawn(["new", "half", ...tiny, "--start"]), "exit");
      await new Promise((resolve) => setTimeout(resolve, delayMs + 250));
      await skep.killDaemon();
      await ended;
      const machines = await skep.machines();
      if (machines.length === 1) {
        const pids = await skep.qemuPids();
        assert.ok(pids.length <= 1, `QEMUs: ${pids}`);
        await skep.skep(["rm", "--force", "half"]);
      }
      assert.deepEqual(await machinesOnDisk(), []);
      await eventually(
        async () => (await skep.qemuPids()).length === 0,
        () => "a stray QEMU",
      );
    }
  });
});

describe("another program's files", () => {
  it("in the machines directory do not disturb", async () => {
    await mkdir(join(skep.home, "machines/lost+found"));
    await writeFile(join(skep.home, "machines/notes.txt"), "");
    await skep.killDaemon();
    const machines = await skep.machines();
    assert.ok(machines.every(({ name, state }) => name === "lost+found" && state === "damaged"));
    await rename(join(skep.home, "machines/lost+found"), join(skep.home, "lost"));
    assert.equal(processStartTime(skep.daemonPid()) === undefined, false);
  });
});

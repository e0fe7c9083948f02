import assert from "node:assert/strict";
import { once } from "node:events";
import { readdir, readFile, rm, truncate } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import type { Template } from "@skep/api";
import { eventually, Installation } from "./support.ts";

const shape = ["--memory", "96M", "--cpus", "1"];
let skep: Installation;
let template: Template;
before(async () => {
  skep = await Installation.make();
});
after(() => skep[Symbol.asyncDispose]());

async function sh(name: string, script: string): Promise<string> {
  return (await skep.skep(["exec", name, "--", "sh", "-c", script])).stdout.trim();
}

async function templates(): Promise<Template[]> {
  return JSON.parse((await skep.skep(["template", "ls", "--json"])).stdout);
}

/** Gives what was noted. */
async function make(name: string, ...args: string[]): Promise<string> {
  return (await skep.skep(["new", name, "--image", "tiny", ...shape, "--start", ...args])).stderr;
}

/** What the kernel has said first, with its times: guests that come of one boot have the same. */
const bootOf = (name: string) => sh(name, "dmesg | head -n 60 | md5sum");

/** The template that a machine which runs began from; null: it was booted. */
async function origin(name: string): Promise<string | null> {
  const { directory } = await skep.machine(name);
  return JSON.parse(await readFile(join(directory, "run.json"), "utf8")).memory.frozen;
}

/** Ids of this home's frozen machines. */
async function frozen(): Promise<string[]> {
  const ids: string[] = [];
  for (const name of await readdir("/dev/shm")) {
    if (!name.startsWith("skep-frozen-")) continue;
    const record = await readFile(join("/dev/shm", name, "record.json"), "utf8").catch(() => "{}");
    const { home, id } = JSON.parse(record) as { home?: string; id?: string };
    if (home === skep.home) ids.push(id as string);
  }
  return ids;
}

const states = () => readdir(join(skep.home, "states")).catch(() => []);

describe("a template that is built", () => {
  before(async () => {
    template = JSON.parse((await skep.skep(["template", "build", "tiny", ...shape, "--json"])).stdout);
  });

  it("is listed, with the shape that it was asked for", async () => {
    const { image, cpus, memoryMiB, diskBytes, state, why, loaded } = template;
    assert.deepEqual([image, cpus, memoryMiB, diskBytes], ["tiny", 1, 96, 0]);
    assert.deepEqual([state, why, loaded], ["ready", null, true]);
    assert.deepEqual(await templates(), [template]);
    assert.match((await skep.skep(["template", "ls"])).stdout, new RegExp(`^${template.id} +tiny +1 `, "m"));
  });

  it("leaves nothing of the machine that it was made of", async () => {
    assert.deepEqual(await skep.machines(), []);
    assert.deepEqual(await readdir(join(skep.home, "machines")), []);
    assert.deepEqual(await skep.qemuPids(), []);
    assert.deepEqual(await states(), [template.id]);
    assert.deepEqual(await frozen(), [template.id]);
  });

  it("is not built twice", async () => {
    const again = await skep.skep(["template", "build", "tiny", ...shape]);
    assert.equal(again.stdout.trim(), template.id);
    assert.equal((await templates()).length, 1);
  });

  it("is found in doctor's list", async () => {
    const checks = JSON.parse((await skep.skep(["doctor", "--json"], { status: null })).stdout) as {
      name: string;
      detail: string;
    }[];
    assert.match(checks.find(({ name }) => name === "templates")?.detail ?? "", /^1 ready/);
  });
});

describe("machines of its shape", () => {
  let boot: string;
  before(async () => {
    assert.equal((await make("one")).match(/boots/), null);
    assert.equal(await origin("one"), template.id);
    boot = await bootOf("one");
  });

  it("begin where it is, also at a later start, each with an identity of its own", async () => {
    await skep.skep(["new", "two", "--image", "tiny", ...shape]);
    assert.equal((await skep.machine("two")).state, "stopped");
    await skep.skep(["start", "two"]);
    assert.equal(await bootOf("two"), boot);
    for (const name of ["one", "two"]) {
      const { id, mac, from, image, ready, state } = await skep.machine(name);
      assert.deepEqual([from, image, ready, state], [null, "tiny", true, "running"]);
      assert.equal(await sh(name, "hostname"), name);
      assert.equal(await sh(name, "cat /sys/class/net/eth0/address"), mac);
      assert.equal(await sh(name, "cat /etc/machine-id"), id.replaceAll("-", ""));
    }
    const drawn = await Promise.all(["one", "two"].map((name) => sh(name, "od -An -tx1 -N16 /dev/urandom")));
    assert.notEqual(drawn[0], drawn[1]);
  });

  it("boot at their next start, and do not begin there again", async () => {
    assert.equal(await origin("two"), template.id);
    await skep.skep(["stop", "--force", "two"]);
    await skep.skep(["start", "two"]);
    assert.equal(await origin("two"), null);
  });

  it("sleep and wake as others do", async () => {
    await sh("one", "echo mine >/tmp/mine");
    await skep.skep(["suspend", "one"]);
    await skep.skep(["resume", "one", "--wait"]);
    assert.equal(await sh("one", "cat /tmp/mine"), "mine");
  });

  it("boot where that is asked for, without a word", async () => {
    const noted = await make("cold", "--cold");
    assert.equal(await origin("cold"), null);
    assert.equal(noted.match(/template/), null);
    await skep.skep(["rm", "--force", "cold"]);
    await skep.skep(["new", "cold", "--image", "tiny", ...shape]);
    await skep.skep(["start", "cold", "--cold"]);
    assert.equal(await origin("cold"), null);
    await skep.skep(["rm", "--force", "cold"]);
  });

  it("boot where it cannot help, and say why", async () => {
    for (const [args, says] of [
      [["--data-disk", "16M"], /other boots from its disk, as no template can help: it has data disks/],
      [["--kernel-args", "quiet"], /it has kernel arguments of its own/],
      [["--cpus", "2"], /there is none yet of tiny with 2 CPUs, 96 MiB of memory/],
    ] as const) {
      assert.match(await make("other", ...args), says);
      assert.equal(await origin("other"), null);
      await skep.skep(["rm", "--force", "other"]);
    }
  });

  it("that are cancelled leave nothing", async () => {
    const child = skep.spawn(["new", "gone", "--image", "tiny", ...shape, "--start"]);
    let stderr = "";
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      const before_ = /starting gone/.test(stderr);
      stderr += text;
      if (!before_ && /starting gone/.test(stderr)) child.kill("SIGINT");
    });
    const [status] = await once(child, "close");
    // It may be ready before the signal is there.
    if (status === 0) await skep.skep(["rm", "--force", "gone"]);
    else assert.equal(status, 130, stderr);
    assert.deepEqual((await skep.machines()).map(({ name }) => name).sort(), ["one", "two"]);
    assert.deepEqual((await readdir(join(skep.home, "machines"))).sort(), ["one", "two"]);
  });

  it("begin there also after skepd was killed, and its memory is still there", async () => {
    await skep.killDaemon();
    assert.equal((await templates())[0]?.loaded, true);
    await make("three");
    assert.equal(await origin("three"), template.id);
    await skep.skep(["rm", "--force", "three"]);
  });
});

describe("a template that is damaged", () => {
  it("is told of, and its machine boots; another one is made where somebody asks for it", async () => {
    await skep.killDaemon();
    await rm(`/dev/shm/skep-frozen-${template.id}`, { recursive: true });
    await truncate(join(skep.home, "states", template.id, "memory.pack"), 4096);
    const says = await make("three");
    assert.match(says, /three boots from its disk, as no template can help: state "st-.*" is damaged/);
    assert.equal(await origin("three"), null);
    await skep.skep(["rm", "--force", "three"]);
    const [bad] = await templates();
    assert.deepEqual([bad?.id, bad?.state], [template.id, "outdated"]);
    const again = await skep.skep(["template", "build", "tiny", ...shape]);
    assert.notEqual(again.stdout.trim(), template.id);
    const all = await templates();
    assert.deepEqual(
      all.map(({ id, state }) => [id, state]),
      [[again.stdout.trim(), "ready"]],
    );
    template = all[0] as Template;
    assert.deepEqual(await states(), [template.id]);
  });
});

describe("a template that is removed", () => {
  it("takes nothing from machines that began there, and its memory goes with the last of them", async () => {
    await make("three");
    const removed = await skep.skep(["template", "rm", "tiny"]);
    assert.equal(removed.stdout.trim(), template.id);
    assert.deepEqual(await templates(), []);
    assert.deepEqual(await states(), []);
    assert.deepEqual(await frozen(), [template.id]);
    assert.equal(await sh("three", "echo answers"), "answers");
    await skep.skep(["rm", "--force", "three"]);
    await eventually(
      async () => (await frozen()).length === 0,
      () => "the memory of the template is left",
    );
    const gone = await skep.skep(["template", "rm", template.id], { status: 1 });
    assert.match(gone.stderr, /there is no template "st-[0-9a-f]{17}"\n.*skep template ls/);
  });
});

describe("a build that is cancelled", () => {
  it("leaves nothing", async () => {
    const child = skep.spawn(["template", "build", "tiny", ...shape]);
    let stderr = "";
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      const before_ = /booting/.test(stderr);
      stderr += text;
      if (!before_ && /booting/.test(stderr)) child.kill("SIGINT");
    });
    const [status] = await once(child, "close");
    assert.equal(status, 130, stderr);
    assert.deepEqual(await templates(), []);
    assert.deepEqual(await states(), []);
    assert.deepEqual((await readdir(join(skep.home, "machines"))).sort(), ["one", "two"]);
    assert.equal((await skep.qemuPids()).length, 2);
  });
});

import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import type { Volume } from "@skep/api";
import { bootDisk } from "./machine-volumes.ts";
import { eventually, Installation } from "./support.ts";

const mib = 1024 ** 2;
const tiny = ["--image", "tiny", "--memory", "128M", "--cpus", "1"];

let skep: Installation;
before(async () => {
  skep = await Installation.make();
});
after(() => skep[Symbol.asyncDispose]());

const volumes = async (): Promise<Volume[]> => JSON.parse((await skep.skep(["vol", "ls", "--json"])).stdout);
const volume = async (name: string): Promise<Volume> =>
  JSON.parse((await skep.skep(["vol", "show", name, "--json"])).stdout);

async function sh(name: string, script: string): Promise<string> {
  return (await skep.skep(["exec", name, "--", "sh", "-c", `exec 2>&1; ${script}`])).stdout;
}

/** A tiny guest has no udev: the disk by its serial. */
async function disk(name: string, id: string): Promise<string> {
  const serial = id.replace("-", "");
  let found = "";
  await eventually(
    async () => {
      const script = `for d in /sys/block/vd*; do [ "$(cat $d/serial)" = ${serial} ] && echo /dev/\${d##*/}; done; true`;
      found = (await sh(name, script)).trim();
      return found !== "";
    },
    () => `${name} never saw ${id}`,
  );
  return found;
}

/** A guest that writes numbered blocks, each durable before the next; ends with the last one's number. */
function write(name: string, path: string, blocks: number): Promise<string> {
  return sh(
    name,
    `i=0; while [ $i -lt ${blocks} ]; do
      printf %04096d $i | dd of=${path} bs=4096 seek=$i count=1 conv=fsync,notrunc 2>/dev/null || exit 1
      i=$((i + 1)); done; echo $i`,
  );
}

function numberedBlocks(blocks: number): string {
  const hash = createHash("md5");
  for (let block = 0; block < blocks; block += 1) hash.update(String(block).padStart(4096, "0"));
  return hash.digest("hex");
}

describe("volumes of a machine, by the command", () => {
  let id = "";

  it("are there from the start, or attached while it runs", async () => {
    await skep.skep(["vol", "add", "--size", "64M", "--name", "data"]);
    await skep.skep(["new", "web", ...tiny, "--volume", "data", "--start", "--wait"]);
    ({ id } = await volume("data"));
    await sh("web", `echo one > ${await disk("web", id)}; sync`);
    await skep.skep(["vol", "add", "--size", "16M", "--name", "log"]);
    const attached = await skep.skep(["vol", "attach", "log", "web"]);
    const log = await volume("log");
    assert.ok(attached.stderr.includes(`/dev/disk/by-id/virtio-${log.id.replace("-", "")}`));
    await sh("web", `echo two > ${await disk("web", log.id)}; sync`);
    assert.deepEqual(
      (await skep.machine("web")).volumes.map((one) => [one.id, one.slot]),
      [
        [id, 0],
        [log.id, 1],
      ],
    );
    assert.ok((await skep.skep(["status", "web"])).stdout.includes(log.id));
    await skep.skep(["vol", "detach", "log"]);
    assert.equal((await volume("log")).machine, null);
    await skep.skep(["vol", "rm", "log"]);
  });

  it("outlive the death of storaged under a guest that writes, three times", async () => {
    const path = await disk("web", id);
    const written = write("web", path, 400);
    for (let kills = 0; kills < 3; kills += 1) {
      await eventually(
        async () => ((await volume("data")).statistics?.clients ?? 0) > 0,
        () => "the guest never connected again",
      );
      const before_ = (await volume("data")).statistics?.bytesWritten ?? 0;
      await eventually(
        async () => ((await volume("data")).statistics?.bytesWritten ?? 0) > before_,
        () => "the guest never wrote again",
      );
      await skep.killStoraged();
    }
    assert.equal(await written, "400\n");
    assert.equal(await sh("web", "dmesg | grep -i 'i/o error'; true"), "");
    await sh("web", "echo 3 > /proc/sys/vm/drop_caches");
    const md5 = await sh("web", `head -c $((400 * 4096)) ${path} | md5sum`);
    assert.equal(md5.split(" ")[0], numberedBlocks(400));
  });

  it("are brought back by a stop when both daemons were killed", async () => {
    await skep.killDaemon();
    await skep.killStoraged();
    await skep.skep(["stop", "web"]);
    const { state, reason } = await skep.machine("web");
    assert.deepEqual([state, reason], ["stopped", null]);
    assert.equal((await volume("data")).socket, null);
  });

  it("have it all on another machine", async () => {
    await skep.skep(["vol", "detach", "data"]);
    await skep.skep(["new", "other", ...tiny, "--volume", "data:ro", "--start", "--wait"]);
    const md5 = await sh("other", `head -c $((400 * 4096)) ${await disk("other", id)} | md5sum`);
    assert.equal(md5.split(" ")[0], numberedBlocks(400));
    await skep.skep(["rm", "--force", "other"]);
    assert.equal((await volume("data")).machine, null);
  });

  it("grow while the guest runs", async () => {
    await skep.skep(["start", "web", "--wait"]);
    await skep.skep(["vol", "attach", "data", "web"]);
    const path = await disk("web", id);
    await skep.skep(["vol", "resize", "data", "80M"]);
    await eventually(
      async () =>
        (await sh("web", `cat /sys/block/${path.slice(5)}/size`)).trim() === String((80 * mib) / 512),
      () => "the guest never saw it",
    );
    await sh("web", `echo end | dd of=${path} bs=1M seek=79 conv=fsync`);
  });

  it("are attached as a whole or not at all when skepd is killed meanwhile", async () => {
    for (const delayMs of [5, 20, 60]) {
      await skep.skep(["vol", "detach", "data"], { status: null });
      const attaching = skep.skep(["vol", "attach", "data", "web"], { status: null });
      await new Promise((resolve) => setTimeout(resolve, delayMs));
      await skep.killDaemon();
      await attaching;
      const { machine } = await volume("data");
      const attached = (await skep.machine("web")).volumes.some((one) => one.id === id);
      assert.equal(machine === "web", attached);
      if (!attached) await skep.skep(["vol", "attach", "data", "web"]);
      assert.equal((await sh("web", `head -c 4096 ${await disk("web", id)} | tail -c 1`)).trim(), "0");
    }
  });

  it("are kept when the machine is removed", async () => {
    const removed = await skep.skep(["rm", "--force", "web"]);
    assert.ok(removed.stderr.includes(`kept: ${id}`));
    assert.equal((await volume("data")).state, "available");
    await skep.skep(["vol", "rm", "data"]);
    assert.deepEqual(await volumes(), []);
  });
});

describe("a machine whose disk is a volume, by the command", () => {
  before(async () => {
    const path = join(skep.home, "hello.raw");
    const disk = Buffer.concat([bootDisk(), randomBytes(48 * mib)]);
    await writeFile(path, disk);
    await skep.skep(["image", "import", path, "--name", "hello"]);
  });

  const ids = async () => (await volumes()).map(({ id }) => id).sort();

  it("boots from what the image holds, and is removed with it", async () => {
    await skep.skep([
      "new",
      "root",
      "--image",
      "hello",
      "--memory",
      "64M",
      "--root-volume",
      "60M",
      "--start",
    ]);
    await eventually(
      async () => (await skep.skep(["logs", "root"])).stdout.includes("root volume boots"),
      () => "it never booted",
    );
    const { diskBytes, volumes: own } = await skep.machine("root");
    assert.deepEqual([diskBytes, own.map(({ role }) => role)], [60 * mib, ["root"]]);
    const refused = await skep.skep(["vol", "detach", own[0]?.id as string], { status: 1 });
    assert.match(refused.stderr, /root volume of machine "root".*\n.*--keep-volumes/s);
    await skep.skep(["rm", "--force", "root"]);
    assert.deepEqual(await volumes(), []);
  });

  it("leaves its volume where that is wished", async () => {
    await skep.skep(["new", "root", "--image", "hello", "--memory", "64M", "--root-volume"]);
    const [own] = (await skep.machine("root")).volumes;
    const removed = await skep.skep(["rm", "--keep-volumes", "root"]);
    assert.ok(removed.stderr.includes(`kept: ${own?.id}`));
    assert.deepEqual(await ids(), [own?.id]);
    await skep.skep(["vol", "rm", own?.id as string]);
  });

  it("is there as a whole or not at all when skepd is killed while it is made", async () => {
    for (const delayMs of [100, 250, 500, 900]) {
      const making = skep.skep(["new", "half", "--image", "hello", "--memory", "64M", "--root-volume"], {
        status: null,
      });
      await new Promise((resolve) => setTimeout(resolve, delayMs));
      await skep.killDaemon();
      await making;
      await eventually(
        async () => {
          const own = (await skep.machines()).flatMap((machine) => machine.volumes.map(({ id }) => id));
          return JSON.stringify(own.sort()) === JSON.stringify(await ids());
        },
        () => "a volume is left that no machine has",
      );
      await skep.skep(["rm", "--all"], { status: null });
    }
    assert.deepEqual(await volumes(), []);
  });
});

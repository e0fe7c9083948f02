import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { readFile } from "node:fs/promises";
import { pipeline } from "node:stream/promises";
import { after, before, describe, it } from "node:test";
import type { Machine } from "@skep/api";
import { killed, StateWorld } from "./state-world.ts";

const copies = ["web-1", "web-2", "web-3"];
const all = ["web", ...copies];
/** What the guest needs for programs that look at its memory. */
const sparedKiB = 12 * 1024;

let world: StateWorld;
let filledBytes: number;
/** Of what fills the guest, and of the file that its copies borrow. */
let [content, shared] = ["", ""];
before(async () => {
  world = await StateWorld.make();
  await world.ask({ verb: "create" });
  await world.sh("mount -o remount,size=100% /tmp");
  const free = Number(await world.sh("awk '/^MemAvailable/ { print $2 }' /proc/meminfo"));
  filledBytes = Math.floor((free - sparedKiB) / 1024) * 1024 ** 2;
  await fill("web");
  content = await contentOf("web");
  await world.ask({ verb: "fork-many", count: copies.length });
  shared = await digestOf(await borrowed());
});
after(() => world[Symbol.asyncDispose]());

async function sh(machine: string, script: string): Promise<string> {
  const output = await world.ask<string>({ verb: "exec", script, machine });
  assert.ok(output !== killed);
  return output;
}

/** Writes over every page that the guest can spare, in place where they have been written before. */
async function fill(machine: string): Promise<void> {
  const blocks = filledBytes / 1024 ** 2;
  await sh(machine, `dd if=/dev/urandom of=/tmp/all bs=1M count=${blocks} conv=notrunc 2>/dev/null`);
}

async function contentOf(machine: string): Promise<string> {
  return (await sh(machine, "sha256sum /tmp/all")).split(" ")[0] as string;
}

async function borrowed(): Promise<string> {
  const [id, ...more] = await world.frozen();
  assert.deepEqual(more, []);
  return `/dev/shm/skep-frozen-${id}/ram`;
}

async function digestOf(path: string): Promise<string> {
  const digest = createHash("sha256");
  await pipeline(createReadStream(path), digest);
  return digest.digest("hex");
}

/** Of what a copy's QEMU has of the borrowed file: all of it, its part of what is shared, and what is its own. */
async function usage(machine: string): Promise<{ rss: number; pss: number; own: number }> {
  const { pid } = (await world.ask<Machine>({ verb: "get", machine })) as Machine;
  const maps = await readFile(`/proc/${pid}/smaps`, "utf8");
  const path = await borrowed();
  const sums = { Rss: 0, Pss: 0, Anonymous: 0 };
  let counts = false;
  for (const line of maps.split("\n")) {
    if (/^[0-9a-f]+-[0-9a-f]+ /.test(line)) counts = line.endsWith(` ${path}`);
    const field = /^(Rss|Pss|Anonymous): +(\d+) kB$/.exec(line);
    if (counts && field !== null) sums[field[1] as keyof typeof sums] += Number(field[2]) * 1024;
  }
  return { rss: sums.Rss, pss: sums.Pss, own: sums.Anonymous };
}

describe("copies of a guest that has touched all its memory", () => {
  it("have all of it, and share it for as long as they only read", async () => {
    for (const name of copies) assert.equal(await contentOf(name), content);
    for (const name of copies) {
      const { rss, pss, own } = await usage(name);
      const told = `${name}: rss ${rss}, pss ${pss}, own ${own}, filled ${filledBytes}`;
      assert.ok(rss > 0.9 * filledBytes, told);
      assert.ok(own < 0.5 * filledBytes, told);
      // Each page that is not its own is counted in parts: one for each copy that has it.
      assert.ok(pss - own < 0.5 * (rss - own), told);
    }
  });

  it("cannot be asked for memory back by a balloon, nor can their machine", async () => {
    for (const machine of all) {
      const said = await world.ask<string>({ verb: "balloon", machine, bytes: filledBytes / 2 });
      assert.match(said as string, /[Nn]o balloon/);
    }
    assert.equal(await digestOf(await borrowed()), shared);
  });

  it("do not see each other's writes to it, nor does what they share", async () => {
    const contents = [content];
    for (const name of copies) {
      await fill(name);
      contents.push(await contentOf(name));
    }
    assert.equal(new Set(contents).size, all.length);
    for (const [index, name] of all.entries()) assert.equal(await contentOf(name), contents[index]);
    for (const name of copies) {
      const { own } = await usage(name);
      assert.ok(own > 0.9 * filledBytes, `${name} has written all, and has ${own} bytes of its own`);
    }
    assert.equal(await digestOf(await borrowed()), shared);
  });

  it("do not see what their machine writes", async () => {
    const kept = await contentOf("web-1");
    await fill("web");
    assert.notEqual(await contentOf("web"), content);
    assert.equal(await contentOf("web-1"), kept);
    assert.equal(await digestOf(await borrowed()), shared);
  });

  it("keep theirs when the machine is gone, over a suspend, and in a copy of a copy", async () => {
    const kept = await contentOf("web-1");
    await world.ask({ verb: "suspend", machine: "web-1" });
    await world.ask({ verb: "remove" });
    await world.ask({ verb: "fork", machine: "web-1", copy: "deep" });
    assert.equal(await contentOf("deep"), kept);
    await fill("deep");
    await world.ask({ verb: "resume", machine: "web-1" });
    assert.equal(await contentOf("web-1"), kept);
    for (const machine of ["deep", ...copies]) await world.ask({ verb: "remove", machine });
    assert.deepEqual(await world.frozen(), []);
  });
});

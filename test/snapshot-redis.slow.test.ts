import assert from "node:assert/strict";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import type { MachineSnapshot, MachineSnapshotRestored } from "@skep/api";
import { run } from "@skep/base";
import { eventually, Installation } from "./support.ts";

/** A store with a running write load, in a Debian guest: what a snapshot has is exactly one instant of it. */
const keys = 100_000;
const fill = `for i = 1, ${keys} do redis.call('set', 'key:' .. i, 'value ' .. i) end`;
/** One step of the load: a number, a key that bears it, and their sum, all at once or not at all. */
const step =
  "local n = redis.call('incr', 'seq'); redis.call('set', 'new:' .. n, n); redis.call('incrby', 'sum', n)";
const load = `sha=$(redis-cli script load "${step}")
while :; do echo "EVALSHA $sha 0"; sleep 0.01; done | redis-cli >/dev/null 2>&1`;
/** All keys of the beginning, each step up to a number and none after it, and nothing else. Gives that number. */
const check = `
  for i = 1, ${keys} do if redis.call('get', 'key:' .. i) ~= 'value ' .. i then return 'key ' .. i end end
  local n = tonumber(redis.call('get', 'seq'))
  for i = 1, n do if redis.call('get', 'new:' .. i) ~= tostring(i) then return 'step ' .. i end end
  if tonumber(redis.call('get', 'sum')) ~= n * (n + 1) / 2 then return 'sum' end
  if redis.call('dbsize') ~= ${keys} + n + 2 then return 'dbsize ' .. redis.call('dbsize') .. ' at ' .. n end
  return n`;

const patience = { timeout: 40 * 60_000 };
let skep: Installation;

async function guest(script: string): Promise<string> {
  return (await skep.skep(["exec", "db", "--", "sh", "-s"], { input: script })).stdout.trim();
}

async function startLoad(): Promise<void> {
  const start = "setsid sh /tmp/load >/dev/null 2>&1 & echo $! >/tmp/load.pid";
  await guest(`cat >/tmp/load <<'END'\n${load}\nEND\n${start}`);
}

async function endLoad(): Promise<void> {
  await guest("kill -- -$(cat /tmp/load.pid)");
}

async function seq(): Promise<number> {
  return Number(await guest("redis-cli get seq"));
}

async function untilSeq(above: number, message: string): Promise<void> {
  await eventually(
    async () => (await seq()) > above,
    () => message,
  );
}

async function checkOneInstant(): Promise<number> {
  const answer = await guest(`redis-cli eval "${check}" 0`);
  assert.match(answer, /^\d+$/, answer);
  return Number(answer);
}

async function json<T>(...args: string[]): Promise<T> {
  return JSON.parse((await skep.skep(["snapshot", ...args, "--json"])).stdout) as T;
}

/** Of a disk that nobody writes. */
async function checkFileSystem(disk: string): Promise<void> {
  const raw = join(skep.home, "disk.raw");
  try {
    await run("qemu-img", ["convert", "-O", "raw", disk, raw]);
    await run("e2fsck", ["-f", "-n", raw]);
  } finally {
    await rm(raw, { force: true });
  }
}

describe("a store that is written to while its machine is kept", patience, () => {
  before(async () => {
    skep = await Installation.make(["debian-12"]);
    await skep.skep([
      ...["new", "db", "--image", "debian-12", "--memory", "768M", "--disk", "4G"],
      ...["--start", "--wait", "--timeout", "25m"],
    ]);
    await guest("cloud-init status --wait >/dev/null; sudo apt-get -qq update");
    await guest("sudo DEBIAN_FRONTEND=noninteractive apt-get -qq install -y redis-server >/dev/null 2>&1");
    await guest(
      "sudo sed -i 's/^appendonly no/appendonly yes/; s/^# *appendfsync always/appendfsync always/; s/^appendfsync everysec/#&/' /etc/redis/redis.conf; sudo systemctl restart redis-server",
    );
    await guest(`redis-cli eval "${fill}" 0`);
    assert.equal(await guest("redis-cli config get appendfsync | tail -n 1"), "always");
  }, patience);
  after(() => skep[Symbol.asyncDispose]());

  for (const memory of [true, false]) {
    it(`has exactly that instant's data after a restore (${memory ? "with memory" : "disks alone"})`, async () => {
      const before_ = Number(await guest("redis-cli exists seq")) === 0 ? 0 : await seq();
      await startLoad();
      await untilSeq(before_ + 20, "the load does not run");
      const name = memory ? "live" : "disks";
      const least = await seq();
      const kept = await json<MachineSnapshot>("create", "db", name, ...(memory ? [] : ["--no-memory"]));
      const most = await seq();
      await untilSeq(most + 50, "the load does not go on");
      await guest("redis-cli set after 1; sudo touch /after; sync");
      if (!memory) {
        assert.equal(kept.fileSystemsFrozen, true);
        await checkFileSystem(join(skep.home, kept.disks[0]?.layer ?? ""));
      }
      const restored = await json<MachineSnapshotRestored>("restore", "db", name, "--discard", "--wait");
      assert.equal(restored.how, memory ? "resumed" : "booted");
      // From its memory the load has gone on.
      if (memory) await endLoad();
      await eventually(
        async () => (await guest("redis-cli ping || true")) === "PONG",
        () => "the store does not answer",
      );
      const instant = await checkOneInstant();
      assert.ok(instant >= least, `${instant} is before ${least}`);
      if (!memory) assert.ok(instant <= most, `${instant} is after ${most}`);
      const files = "ls /after 2>/dev/null; sudo dmesg | grep -iE 'EXT4-fs.*error|I/O error' || true";
      assert.equal(await guest(files), "");
      assert.equal(
        await guest("redis-cli set written 1; redis-cli del written; sudo touch /later && sync"),
        "OK\n1",
      );
    });
  }

  it("is on a file system that is whole when its machine has stopped", async () => {
    await skep.skep(["stop", "db"]);
    await checkFileSystem(join(skep.home, "machines/db/disk.qcow2"));
  });
});

/** The helper in a guest without a disk and without udev, over the port that every machine has. */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { GuestHelper, type HelperStep, type StepResult } from "@skep/qmp";
import { Installation } from "./support.ts";

const patience = { timeout: 15 * 60_000 };
const identity: HelperStep[] = [
  { verb: "seed", bytes: randomBytes(64) },
  { verb: "clock", unixMs: Date.UTC(2040, 0, 1) },
  { verb: "mac", address: "52:54:00:12:34:56" },
  { verb: "hostname", name: "another" },
  { verb: "machine-id", id: "a".repeat(32) },
  { verb: "instance", id: "another" },
  { verb: "has", path: "/etc/ssh/ssh_host_ed25519_key" },
  { verb: "own-file", path: "/root/secret", mode: 0o600, content: Buffer.from("\0secret\n") },
  { verb: "freeze", seconds: 60 },
  { verb: "reload-sshd" },
  { verb: "thaw" },
];

let skep: Installation;
let path: string;
const inside = async (script: string): Promise<string> =>
  (await skep.skep(["exec", "small", "--", "sh", "-c", script])).stdout.trimEnd();
const outcomes = (results: StepResult[]) => results.map(({ verb, outcome }) => `${verb} ${outcome}`);

async function rawConnection(): Promise<Socket> {
  const socket = connect({ path });
  await once(socket, "connect");
  return socket;
}

describe("the helper in a tiny guest", patience, () => {
  before(async () => {
    skep = await Installation.make();
    await skep.skep(["new", "small", "--image", "tiny", "--memory", "128M", "--start", "--wait"]);
    path = join(skep.runtime, (await skep.machine("small")).id.slice(0, 8), "qemu", "helper.sock");
  }, patience);
  after(() => skep[Symbol.asyncDispose]());

  it("gives an identity that is there inside, once or twice with the same outcome", async () => {
    await using helper = new GuestHelper(path);
    const known = await helper.ping();
    for (const { verb } of identity) assert.ok(known.has(verb), verb);
    for (let time = 0; time < 2; time += 1) {
      assert.deepEqual(outcomes(await helper.exchange(identity)), [
        ...["seed done", "clock done", "mac done", "hostname done", "machine-id done", "instance skipped"],
        ...["has skipped", "own-file done", "freeze skipped", "reload-sshd skipped", "thaw skipped"],
      ]);
      const said = await inside(`
        date +%Y; cat /sys/class/net/eth0/address; hostname; cat /etc/hostname
        grep -c '^127.0.1.1 another$' /etc/hosts; cat /etc/machine-id
        stat -c %a /root/secret; tr -d '\\0' </root/secret; ls /etc/*.skep /root/*.skep 2>/dev/null || true`);
      assert.deepEqual(said.split("\n"), [
        ...["2040", "52:54:00:12:34:56", "another", "another", "1", "a".repeat(32), "600", "secret"],
      ]);
    }
  });

  it("survives garbage, halves of messages and hosts that hang up", async () => {
    await using helper = new GuestHelper(path);
    const bad = [
      randomBytes(600_000),
      Buffer.alloc(600_000, "hostname evil"),
      "begin x\nhostname evil\ngo x 2\n",
      "begin x\nhostname evil\n",
      "begin x\nhostname evil\nno such verb\ngo x 2\n",
      `${"begin y\nping-1\ngo y 1\n".repeat(1000)}begin x\nhostname e`,
    ];
    for (const bytes of bad) {
      const socket = await rawConnection();
      socket.on("error", () => {});
      socket.write(bytes);
      socket.end();
      socket.destroySoon();
      await once(socket, "close");
      assert.deepEqual(outcomes(await helper.exchange([{ verb: "ping-1" }])), ["ping-1 done"]);
      helper.disconnect();
    }
    assert.equal(await inside("hostname"), "another");
  });

  it("reads what was said while it was away, and comes back when it has died", async () => {
    await using helper = new GuestHelper(path);
    await helper.connect();
    await inside("kill -STOP $(pidof skep-helper)");
    const answer = helper.exchange([{ verb: "hostname", name: "third" }], { timeoutMs: 120_000 });
    await inside("kill -CONT $(pidof skep-helper)");
    assert.deepEqual(outcomes(await answer), ["hostname done"]);
    await inside("kill -KILL $(pidof skep-helper)");
    assert.deepEqual(outcomes(await helper.exchange([{ verb: "ping-1" }], { timeoutMs: 120_000 })), [
      "ping-1 done",
    ]);
    assert.equal(await inside("hostname"), "third");
  });
});

import assert from "node:assert/strict";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import type { ForkResult } from "@skep/api";
import { eventually, Installation } from "./support.ts";

/** An emulated guest on a machine that does something else as well. */
const patience = { timeout: 30 * 60_000 };
const copies = ["web-1", "web-2"];
/** After which a guest's helper has its services go on by itself. */
const helperLeaseSeconds = 120;
/** As a seed may have it; the metric tells that it was taken. */
const networkConfig = `version: 2
ethernets:
  card:
    match: {name: "e*"}
    dhcp4: true
    dhcp4-overrides: {route-metric: 77}
`;
const userData = `#cloud-config
runcmd:
  - [sh, -c, "echo ran >> /var/lib/skep-test-ran"]
`;
/** Draws random bytes all the time, so that some of it comes right after the fork. */
const draw = `while :; do od -An -tx1 -N16 /dev/urandom; python3 -c 'import os; print(os.getrandom(16).hex())'; done`;

let skep: Installation;
let result: ForkResult;

async function guest(name: string, script: string): Promise<string> {
  return (await skep.skep(["exec", name, "--", "sh", "-s"], { input: script })).stdout.trim();
}

/** By plain ssh, which knows the host's key from the beginning and takes no other. */
async function ssh(name: string, command: string): Promise<string> {
  const options = [
    "-F",
    join(skep.home, "ssh/config"),
    "-o",
    "BatchMode=yes",
    "-o",
    "StrictHostKeyChecking=yes",
  ];
  const { stdout, stderr, status } = await skep.command("ssh", [...options, `${name}.skep`, command]);
  assert.equal(status, 0, stderr);
  return stdout.trim();
}

function distinct(values: readonly string[]): void {
  assert.equal(new Set(values).size, values.length, values.join("\n"));
}

describe("copies of a Debian guest", patience, () => {
  before(async () => {
    skep = await Installation.make(["debian-12"]);
    await writeFile(join(skep.home, "user-data"), userData);
    await writeFile(join(skep.home, "network-config"), networkConfig);
    await skep.skep([
      ...["new", "web", "--image", "debian-12", "--memory", "768M", "--start", "--wait", "--timeout", "25m"],
      ...["--user-data", join(skep.home, "user-data")],
      ...["--network-config", join(skep.home, "network-config")],
    ]);
    await guest("web", "cloud-init status --wait >/dev/null");
    await guest(
      "web",
      `echo nonce | sudo tee /dev/shm/nonce >/dev/null; cat >/tmp/draw.sh <<'END'\n${draw}\nEND\nsudo systemd-run --unit=drawing sh -c 'sh /tmp/draw.sh >/dev/shm/drawn'`,
    );
    result = JSON.parse((await skep.skep(["fork", "web", "-n", "2", "--json"])).stdout) as ForkResult;
  }, patience);
  after(() => skep[Symbol.asyncDispose]());

  it("have all of their identity", async () => {
    for (const { identity } of result.copies) {
      assert.deepEqual(
        identity.filter(({ outcome }) => outcome !== "done"),
        [],
      );
      const keys = identity.filter(({ step }) => step.startsWith("ssh host key"));
      assert.equal(keys.length, 2);
    }
  });

  it("are reached by ssh at once, each by a key of its own", async () => {
    for (const name of copies)
      assert.equal(await ssh(name, "hostname; cat /dev/shm/nonce"), `${name}\nnonce`);
    const keys = ["web", ...copies].map((name) => guest(name, "cat /etc/ssh/ssh_host_*_key.pub"));
    distinct(
      (await Promise.all(keys)).flatMap((text) => text.split("\n").map((line) => line.split(" ")[1] ?? "")),
    );
  });

  it("keep their address while they get a MAC of their own", async () => {
    const mac = (name: string) => guest(name, "cat /sys/class/net/e*/address");
    distinct(await Promise.all(["web", ...copies].map(mac)));
    for (const name of copies) {
      assert.match(await guest(name, "ip -4 route show default"), /metric 77/);
      const said = await guest(name, "sudo journalctl --boot --output cat --unit systemd-networkd");
      assert.match(said, /acquired from/);
      assert.doesNotMatch(said, /lease lost/);
    }
  });

  it("tell their own names and ids by cloud-init's own words", async () => {
    for (const name of copies) {
      const said = await guest(
        name,
        "cloud-init query instance_id; cloud-init query local_hostname; cat /run/cloud-init/.instance-id",
      );
      const { id } = await skep.machine(name);
      assert.equal(said, [id, name, id].join("\n"));
    }
  });

  it("draw other random bytes from the first one on", async () => {
    const drawn = await Promise.all(
      copies.map(async (name) => (await guest(name, "cat /dev/shm/drawn")).split("\n")),
    );
    const [one = [], other = []] = drawn;
    let alike = 0;
    while (alike < one.length && one[alike] === other[alike]) alike += 1;
    assert.ok(alike > 0 && alike < Math.min(one.length, other.length), "nothing was drawn before, or since");
    const later = new Set(other.slice(alike));
    assert.deepEqual(
      one.slice(alike).filter((bytes) => later.has(bytes)),
      [],
    );
  });

  it("are none when skepd dies meanwhile, and the machine's services go on at once", async () => {
    const tick = "while sleep 0.1; do read -r up _ </proc/uptime; echo $up; done >/dev/shm/ticks";
    await guest("web", `sudo systemd-run --quiet sh -c '${tick}'`);
    const { id } = await skep.machine("web");
    const held = join(skep.runtime, id.slice(0, 8), "services-held");
    const child = skep.spawn(["fork", "web", "-n", "2", "--prefix", "lost"]);
    const ended = once(child, "close");
    await eventually(
      () => existsSync(held),
      () => "its services were never held",
    );
    await skep.killDaemon();
    await ended;
    assert.deepEqual(
      (await skep.machines()).map(({ name }) => name),
      ["web", ...copies],
    );
    const ticks = (await guest("web", "cat /dev/shm/ticks")).split("\n").map(Number);
    const longest = Math.max(...ticks.slice(1).map((at, index) => at - (ticks[index] as number)));
    assert.ok(longest < helperLeaseSeconds / 2, `they stood still for ${longest} s of the guest's time`);
    assert.ok(!existsSync(held));
  });

  it("keep their identity when they boot again, and cloud-init runs nothing twice", async () => {
    const keys = "cat /etc/ssh/ssh_host_*_key.pub; cat /etc/machine-id";
    const before_ = await guest("web-1", keys);
    await guest("web-1", "sudo systemctl reboot || true").catch(() => undefined);
    await eventually(
      async () =>
        (await guest("web-1", "test -e /dev/shm/nonce || echo booted").catch(() => "")) === "booted",
      () => "it has not booted again",
      20 * 60_000,
    );
    assert.equal(await guest("web-1", keys), before_);
    await guest("web-1", "cloud-init status --wait >/dev/null || true");
    assert.equal(await guest("web-1", "cat /var/lib/skep-test-ran; hostname"), "ran\nweb-1");
    const { id, mac } = await skep.machine("web-1");
    assert.equal(
      await guest("web-1", "sudo cloud-init query instance_id; cat /sys/class/net/e*/address"),
      `${id}\n${mac}`,
    );
    assert.match(
      await readFile(join(skep.home, "machines/web-1/known_hosts"), "utf8"),
      /^web-1\.skep ssh-ed25519 /m,
    );
  });
});

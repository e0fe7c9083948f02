/** The helper in a guest with systemd, cloud-init and sshd: udev starts it, and it stands outside of what it freezes. */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import type { ForkResult } from "@skep/api";
import { GuestHelper, type HelperStep, type StepResult } from "@skep/qmp";
import { eventually, Installation, root } from "./support.ts";

const patience = { timeout: 40 * 60_000 };
const unhurried = { timeoutMs: 180_000 };
const slices = "/sys/fs/cgroup/system.slice /sys/fs/cgroup/user.slice";
const hostKey = "/etc/ssh/ssh_host_ed25519_key";

let skep: Installation;
let helper: GuestHelper;
let mac: string;
/** Runs lines in the guest's shell, as root. */
const guest = async (script: string): Promise<string> =>
  (await skep.skep(["exec", "web", "--user", "root", "--", "sh", "-s"], { input: script })).stdout.trimEnd();
const outcomes = (results: StepResult[]) => results.map(({ verb, outcome }) => `${verb} ${outcome}`);
const exchange = async (...steps: HelperStep[]) => outcomes(await helper.exchange(steps, unhurried));

/** Waits until the guest has a file, without anything that would need its network. */
async function untilThere(path: string): Promise<void> {
  await eventually(
    async () => (await exchange({ verb: "has", path }))[0] === "has done",
    () => `the guest has no ${path}`,
    unhurried.timeoutMs,
  );
}

describe("the helper in a Debian guest", patience, () => {
  before(async () => {
    skep = await Installation.make(["debian-12"]);
    await skep.skep([
      ...["new", "web", "--image", "debian-12", "--memory", "768M", "--start", "--wait", "--timeout", "25m"],
    ]);
    const machine = await skep.machine("web");
    mac = machine.mac;
    helper = new GuestHelper(join(skep.runtime, machine.id.slice(0, 8), "qemu", "helper.sock"));
    await guest("cloud-init status --wait >/dev/null");
  }, patience);
  after(async () => {
    helper?.disconnect();
    await skep[Symbol.asyncDispose]();
  });

  it("was started by udev, outside of what it freezes", async () => {
    assert.ok((await helper.ping(unhurried)).has("machine-id"));
    assert.equal(await guest("systemctl is-active skep-helper; systemctl --failed --no-legend"), "active");
    assert.equal(await guest("cut -d: -f3 /proc/$(pidof skep-helper)/cgroup"), "/skep-helper.service");
  });

  it("lets go on what it has frozen when nobody speaks to it any more", async () => {
    await guest(`
      printf '%s\\n' '#!/bin/sh' 'while sleep 0.1; do read -r up _ </proc/uptime; echo $up; done >/run/ticks' >/run/tick
      chmod +x /run/tick; systemd-run --quiet /run/tick; until [ -s /run/ticks ]; do sleep 0.1; done`);
    assert.deepEqual(await exchange({ verb: "freeze", seconds: 4 }), ["freeze done"]);
    // No thaw is sent: this one is answered once the helper has thawed by itself.
    assert.equal(
      await guest(`cd ${slices.split(" ")[0]}; cat cgroup.freeze ../user.slice/cgroup.freeze`),
      "0\n0",
    );
    const ticks = (await guest("cat /run/ticks")).split("\n").map(Number);
    const longest = Math.max(...ticks.slice(1).map((tick, index) => tick - (ticks[index] as number)));
    assert.ok(longest > 3.5, `the services stood still for ${longest} s of the guest's time`);
  });

  it("lets it go on by a thaw, and by a new helper where the old one has died", async () => {
    const freeze: HelperStep = { verb: "freeze", seconds: 600 };
    assert.deepEqual(await exchange(freeze, freeze, { verb: "thaw" }), [
      "freeze done",
      "freeze done",
      "thaw done",
    ]);
    assert.equal(await guest("echo up"), "up");
    const whenFrozen = "until grep -q 1 /sys/fs/cgroup/system.slice/cgroup.freeze; do sleep 0.2; done";
    await guest(
      `systemd-run --quiet --slice=-.slice sh -c '${whenFrozen}; sleep 1; kill -KILL $(pidof skep-helper)'`,
    );
    assert.deepEqual(await exchange(freeze), ["freeze done"]);
    assert.equal(await guest("echo up"), "up");
    assert.deepEqual(await exchange({ verb: "ping-1" }), ["ping-1 done"]);
  });

  it("gives it another identity, which sshd, the journal and cloud-init have, too", async () => {
    await guest("sed -i '/^127.0.1.1/d' /etc/hosts; echo 127.0.1.1 web >>/etc/hosts");
    const old = await guest("cat /etc/machine-id; journalctl --rotate; journalctl --sync");
    const key = join(skep.home, "key");
    await skep.command("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-C", "", "-f", key]);
    const id = "a".repeat(32);
    assert.deepEqual(
      await exchange(
        { verb: "freeze", seconds: 60 },
        { verb: "seed", bytes: randomBytes(256) },
        { verb: "clock", unixMs: Date.UTC(2040, 0, 1) },
        { verb: "hostname", name: "another" },
        { verb: "machine-id", id },
        { verb: "instance", id: "another" },
        { verb: "has", path: hostKey },
        { verb: "own-file", path: hostKey, mode: 0o600, content: await readFile(key) },
        { verb: "own-file", path: `${hostKey}.pub`, mode: 0o644, content: await readFile(`${key}.pub`) },
        { verb: "reload-sshd" },
        { verb: "thaw" },
      ),
      [
        ...["freeze done", "seed done", "clock done", "hostname done", "machine-id done", "instance done"],
        ...["has done", "own-file done", "own-file done", "reload-sshd done", "thaw done"],
      ],
    );
    const { id: own, ports, directory } = await skep.machine("web");
    const port = String(ports.find(({ guestPort }) => guestPort === 22)?.hostPort);
    const given = (await readFile(`${key}.pub`, "utf8")).split(" ")[1] as string;
    const scan = ["-t", "ed25519", "-T", "60", "-p", port, "127.0.0.1"];
    await eventually(
      async () => (await skep.command("ssh-keyscan", scan)).stdout.includes(given),
      () => "sshd shows another key than the one it was given",
      unhurried.timeoutMs,
    );
    await helper.exchange([{ verb: "clock", unixMs: Date.now() }], unhurried);
    await writeFile(join(directory, "known_hosts"), `web.skep ssh-ed25519 ${given}\n`);
    const lines = (
      await guest(`
        hostname; cat /etc/hostname /etc/machine-id
        grep -c '^127.0.1.1 another$' /etc/hosts
        basename "$(readlink /var/lib/cloud/instance)"; cat /var/lib/cloud/data/instance-id; echo
        systemctl --failed --no-legend; ls /etc/*.skep /etc/ssh/*.skep /var/lib/cloud/*.skep 2>/dev/null
        logger -t marked after; journalctl --sync; journalctl -q -t marked -o cat
        journalctl -q -b -n 1 -o cat >/dev/null && echo journal`)
    ).split("\n");
    assert.deepEqual(
      lines.filter((line) => line !== ""),
      [...["another", "another", id, "1", "another", "another"], "after", "journal"],
    );
    // For what comes after this, and for its next boot.
    assert.deepEqual(
      await exchange(
        { verb: "hostname", name: "web" },
        { verb: "machine-id", id: old },
        { verb: "instance", id: own },
      ),
      ["hostname done", "machine-id done", "instance done"],
    );
  });

  it("changes the card's address, and every file that configures the network by it", async () => {
    const other = "52:54:00:12:34:56";
    const named = (address: string) =>
      `grep -rliF ${address} /etc/netplan /etc/systemd/network /run/systemd/network`;
    await guest(`printf '[Match]\\nMACAddress=%s\\n' ${mac} >/etc/systemd/network/98-by-address.network`);
    const files = await guest(`${named(mac)} | sort`);
    assert.match(files, /98-by-address/);
    // The forwards lead to the old address' lease, so what is there meanwhile is written down inside.
    const look = `until [ -e /run/look ]; do sleep 0.2; done; { cat /sys/class/net/e*/address; ${named(other)} | sort; } >/run/new`;
    await guest(`
      printf '%s\\n' '#!/bin/sh' '${look}; mv /run/new /run/seen' >/run/watch
      chmod +x /run/watch; systemd-run --quiet --slice=-.slice /run/watch`);
    assert.deepEqual(
      await exchange(
        { verb: "mac", address: other },
        { verb: "own-file", path: "/run/look", mode: 0o600, content: Buffer.from("now") },
      ),
      ["mac done", "own-file done"],
    );
    await untilThere("/run/seen");
    assert.deepEqual(await exchange({ verb: "mac", address: mac }), ["mac done"]);
    let seen = "";
    await eventually(
      async () => {
        seen = await guest("cat /run/seen").catch(() => "");
        return seen !== "";
      },
      () => "the guest is not reached any more",
      unhurried.timeoutMs,
    );
    assert.equal(seen, [other, files].join("\n"));
    assert.equal(await guest(`${named(mac)} | sort`), files);
    assert.equal(await guest(`grep -rlF ${other} /etc /run/systemd/network || true`), "");
  });

  it("is installed into a guest that has none, which can be forked from then on", async () => {
    helper.disconnect();
    await guest(`
      systemctl stop skep-helper
      rm /usr/local/sbin/skep-helper /etc/systemd/system/skep-helper.service /etc/udev/rules.d/60-skep-helper.rules
      systemctl daemon-reload; udevadm control --reload`);
    const refused = await skep.skep(["fork", "web"], { status: 1 });
    assert.match(refused.stderr, /its guest has no helper/);

    const program = join(skep.home, "skep-helper");
    await skep.command(join(root, "guest/build.sh"), [program]);
    const sent = [program, ...["install.sh", "skep-helper.service", "60-skep-helper.rules"].map(inHouse)];
    for (const path of sent) await skep.skep(["cp", path, "web:/tmp/"]);
    assert.equal(
      await guest("cd /tmp && sh install.sh skep-helper && systemctl is-active skep-helper"),
      "active",
    );
    const { copies } = JSON.parse((await skep.skep(["fork", "web", "copy", "--json"])).stdout) as ForkResult;
    assert.deepEqual(
      copies[0]?.identity.filter(({ outcome }) => outcome !== "done"),
      [],
    );
    await skep.skep(["rm", "--force", "copy"]);
    await skep.skep(["stop", "web"]);
    await skep.skep(["start", "web", "--wait", "--timeout", "25m"]);
    assert.ok((await helper.ping(unhurried)).has("thaw"));
    assert.equal(await guest("systemctl is-active skep-helper"), "active");
  });
});

function inHouse(name: string): string {
  return join(root, "guest", name);
}

import assert from "node:assert/strict";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import type { Template } from "@skep/api";
import { eventually, Installation } from "./support.ts";

/** An emulated guest on a machine that does something else as well. */
const patience = { timeout: 25 * 60_000 };
const shape = ["--image", "debian-12", "--memory", "768M", "--disk", "6G"];
const userData = `#cloud-config
users:
  - default
  - name: alice
    shell: /bin/bash
write_files:
  - path: /etc/skep-test
    content: written by user-data
runcmd:
  - [sh, -c, "echo ran >> /var/skep-runs"]
`;

let skep: Installation;
const guest = async (name: string, script: string): Promise<string> =>
  (await skep.skep(["exec", name, "--", "sh", "-s"], { input: script })).stdout.trimEnd();

/** What no two machines may share. */
const identity = `
  hostname; cat /etc/machine-id; sudo cloud-init query instance_id; cat /sys/class/net/e*/address
  cat /etc/ssh/ssh_host_*.pub | cut -d' ' -f1,2; od -An -tx1 -N16 /dev/urandom`;

/** `boots`: it may be in use before cloud-init is done. */
async function checkIdentity(name: string, boots: boolean): Promise<string[]> {
  const { id, mac } = await skep.machine(name);
  if (boots) await guest(name, "cloud-init status --wait || :");
  const lines = (await guest(name, identity)).split("\n");
  assert.deepEqual(lines.slice(0, 4), [name, id.replaceAll("-", ""), id, mac]);
  return lines;
}

/** What holds of a machine that was made with `made`, however it began. */
function properties(boots: boolean): void {
  let plain: string[];
  let full: string[];

  it("has a name, ids, a MAC and host keys of its own, and its host keys are known", async () => {
    plain = await checkIdentity("plain", boots);
    full = await checkIdentity("full", boots);
    assert.equal(plain.length, full.length);
    for (const [index, line] of plain.entries()) assert.notEqual(line, full[index]);
    for (const [name, lines] of [
      ["plain", plain],
      ["full", full],
    ] as const) {
      const known = await readFile(join((await skep.machine(name)).directory, "known_hosts"), "utf8");
      const key = lines.find((line) => line.startsWith("ssh-ed25519 "));
      assert.ok(known.includes(`${name}.skep ${key}\n`), known);
    }
  });

  it("has not been without its address since it had it", async () => {
    for (const name of ["plain", "full"]) {
      const said = await guest(name, "sudo journalctl --boot --output cat --unit systemd-networkd");
      assert.match(said, /acquired from/);
      assert.doesNotMatch(said, /lease lost/);
    }
  });

  it("has the size of disk that was asked for, in its file system too", async () => {
    for (const name of ["plain", "full"]) {
      assert.equal(await guest(name, "lsblk -bdno SIZE /dev/vda"), String(6 * 1024 ** 3));
      const bytes = Number(await guest(name, "df -B1 --output=size / | tail -1"));
      assert.ok(bytes > 5.5 * 1024 ** 3, `the root file system has ${bytes} bytes`);
    }
  });

  it("has its user-data done, once, and what is asked for early is there when people may come in", async () => {
    assert.equal(await guest("full", "cat /etc/skep-test"), "written by user-data");
    assert.equal(await guest("full", 'echo "$PLAIN"'), "x y");
    await guest("full", "cloud-init status --wait >/dev/null");
    assert.equal(await guest("full", "getent passwd alice | cut -d: -f7"), "/bin/bash");
    assert.equal(await guest("full", "cat /var/skep-runs"), "ran");
    assert.equal(await guest("plain", "ls /etc/skep-test /var/skep-runs 2>/dev/null || echo none"), "none");
    const result = JSON.parse(await guest("full", "cat /run/cloud-init/result.json"));
    assert.deepEqual(result.v1.errors, []);
  });

  it("lets its owner's keys in, whose file is the user's", async () => {
    const keys = join(skep.home, "extra");
    for (const name of ["plain", "full"]) {
      assert.match(await guest(name, "cut -d' ' -f3 .ssh/authorized_keys"), /extra@test/);
      assert.equal(await guest(name, "stat -c '%U %a' .ssh/authorized_keys"), "debian 600");
      const { ssh } = await skep.machine(name);
      const options = [
        "-o",
        "StrictHostKeyChecking=no",
        "-o",
        "UserKnownHostsFile=/dev/null",
        "-o",
        "BatchMode=yes",
      ];
      const into = [
        "-i",
        keys,
        "-o",
        "IdentitiesOnly=yes",
        "-p",
        String(ssh?.port),
        "debian@127.0.0.1",
        "hostname",
      ];
      assert.equal((await skep.command("ssh", [...options, ...into])).stdout.trim(), name);
    }
  });

  it("has no failed unit", async () => {
    for (const name of ["plain", "full"])
      assert.equal(await guest(name, "systemctl --failed --no-legend"), "");
  });

  it(`is the same after a reboot, which runs nothing again (${boots ? "cold" : "warm"})`, async () => {
    const seed = (lines: readonly string[]) => lines.slice(0, -1);
    for (const [name, before_] of [
      ["plain", plain],
      ["full", full],
    ] as const) {
      await skep.skep(["restart", name, "--wait"]);
      assert.deepEqual(seed(await checkIdentity(name, true)), seed(before_));
    }
    await guest("full", "cloud-init status --wait >/dev/null");
    assert.equal(await guest("full", "cat /var/skep-runs; cat /etc/skep-test"), "ran\nwritten by user-data");
    assert.equal(await guest("full", 'echo "$PLAIN"'), "x y");
  });
}

async function makeBoth(...more: string[]): Promise<string> {
  const key = ["--ssh-key", join(skep.home, "extra.pub")];
  const given = ["--user-data", join(skep.home, "user-data"), "--env", "PLAIN=x y"];
  const made = [];
  made.push(await skep.skep(["new", "plain", ...shape, ...key, "--wait", ...more]));
  made.push(await skep.skep(["new", "full", ...shape, ...key, ...given, "--wait", ...more]));
  return made.map(({ stderr }) => stderr).join("");
}

describe("Debian", patience, () => {
  before(async () => {
    skep = await Installation.make(["debian-12"]);
    await skep.command("ssh-keygen", [
      "-q",
      "-t",
      "ed25519",
      "-N",
      "",
      "-C",
      "extra@test",
      "-f",
      join(skep.home, "extra"),
    ]);
    await writeFile(join(skep.home, "user-data"), userData);
  });
  after(() => skep[Symbol.asyncDispose]());

  describe("that booted", patience, () => {
    before(() => makeBoth("--cold"), patience);
    after(() => skep.skep(["rm", "--force", "plain", "full"]));
    properties(true);
  });

  describe("that began from a template", patience, () => {
    before(async () => {
      const build = ["template", "build", "debian-12", "--memory", "768M", "--disk", "6G", "--json"];
      const template: Template = JSON.parse((await skep.skep(build)).stdout);
      assert.equal(template.state, "ready");
      assert.doesNotMatch(await makeBoth(), /boots from its disk/);
      const bootId = "cat /proc/sys/kernel/random/boot_id";
      assert.equal(await guest("plain", bootId), await guest("full", bootId));
    }, patience);
    it("has its user's systemd from the beginning, for a minute", async () => {
      await skep.skep(["new", "early", ...shape, "--wait"]);
      const session = async () =>
        await guest("early", "systemctl is-active skep-session; loginctl list-sessions");
      assert.match(await session(), /^active\n[\s\S]*debian/);
      await eventually(
        async () => (await session()).startsWith("inactive"),
        () => "whoever was logged in when the template was kept still is",
      );
      assert.equal(await guest("early", "systemctl --failed --no-legend --plain"), "");
      await skep.skep(["rm", "--force", "early"]);
    });
    properties(false);
  });
});

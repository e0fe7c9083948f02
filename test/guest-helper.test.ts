/** The guest's helper, built with memory checks and given files below a directory of the test's own. */
import assert from "node:assert/strict";
import { execFileSync, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import {
  chmodSync,
  chownSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { seeded } from "@skep/base/testing";
import { eventually } from "./support.ts";

const directory = mkdtempSync("/tmp/skep-guest-");
const root = join(directory, "root");
const program = join(directory, "helper");
const steps = [
  "ping-1",
  `seed ${Buffer.alloc(64).toString("base64")}`,
  "clock 1700000000123",
  "mac 52:54:00:12:34:56",
  "hostname web",
  `machine-id ${"a".repeat(32)}`,
  "has /etc/ssh",
  `own-file /etc/ssh/key 600 ${Buffer.from("key").toString("base64")}`,
  `replace /etc/ssh/key.pub 644 ${Buffer.from("key").toString("base64")}`,
  "unless /etc/ssh/key.pub",
  "instance web",
  "sync",
  "freeze 30",
  "thaw",
];
const message = (lines: string[]) => `\nbegin x1\n${lines.join("\n")}\ngo x1 ${lines.length}\n`;
const whole = message(steps);
const end = `end x1 ${steps.length}\n`;

/** What the helper answers; a finding of the sanitizers is a status other than 0. */
function tell(input: string | Buffer): string {
  const { status, stdout, stderr } = spawnSync(program, ["--root", root], { input, timeout: 60_000 });
  assert.equal(status, 0, stderr.toString().slice(-4000));
  return stdout.toString("latin1");
}

function write(path: string, content: string): void {
  mkdirSync(join(root, path, ".."), { recursive: true });
  writeFileSync(join(root, path), content);
}
const text = (path: string) => readFileSync(join(root, path), "utf8");

function freshRoot(): void {
  rmSync(root, { recursive: true, force: true });
  for (const path of ["etc/ssh", "var/lib/cloud/instances/old", "var/lib/cloud/data"]) {
    mkdirSync(join(root, path), { recursive: true });
  }
  write("etc/hosts", "127.0.0.1 localhost\n127.0.1.1 a.b a\n::1 x\n");
  symlinkSync("/var/lib/cloud/instances/old", join(root, "var/lib/cloud/instance"));
}

before(() => {
  execFileSync("guest/build.sh", [
    program,
    "-g",
    "-Werror",
    "-fsanitize=address,undefined",
    "-fno-sanitize-recover=all",
  ]);
});
after(() => rmSync(directory, { recursive: true, force: true }));

test("an identity is written once or twice with the same outcome, and kernel steps are told as skipped", () => {
  freshRoot();
  const answer = tell(whole + whole);
  assert.equal(answer.split(end).length, 3);
  assert.match(answer, /step x1 3 mac skipped/);
  assert.doesNotMatch(answer, /failed|refused/);
  assert.equal(text("etc/hosts"), "127.0.0.1 localhost\n127.0.1.1 web\n::1 x\n");
  assert.equal(text("etc/hostname"), "web\n");
  assert.equal(text("etc/machine-id"), `${"a".repeat(32)}\n`);
  assert.equal(text("etc/ssh/key"), "key");
  assert.equal(statSync(join(root, "etc/ssh/key")).mode & 0o777, 0o600);
  assert.equal(readlinkSync(join(root, "var/lib/cloud/instance")), "/var/lib/cloud/instances/web");
  assert.equal(text("var/lib/cloud/data/instance-id"), "web\n");
});

test("a message cut off does nothing, and the next one is read whole", () => {
  for (let bytes = 0; bytes < whole.length - 1; bytes += 23) {
    freshRoot();
    assert.equal(tell(whole.slice(0, bytes)), "");
    assert.throws(() => statSync(join(root, "etc/hostname")));
    assert.ok(tell(whole.slice(0, bytes) + whole).endsWith(end));
  }
});

test("one step that is not valid refuses the whole message", () => {
  const wrong = [
    "own-file /etc/../x 600 aa==",
    "hostname -x",
    "mac 53:54:00:12:34:56",
    "clock 1e9",
    "own-file /x 4755 ",
    "no",
    "seed *",
    "freeze",
    "freeze 0",
    "freeze 601",
    "thaw now",
  ];
  for (const step of wrong) {
    freshRoot();
    assert.match(tell(message(["hostname web", step])), /^refused x1 step 1/);
    assert.throws(() => statSync(join(root, "etc/hostname")));
  }
  assert.match(tell(message(Array<string>(65).fill("ping-1"))), /^refused x1 the message is too large/);
  assert.ok(tell(`\nbegin a\nhostname ${"a".repeat(400_000)}\ngo a 1\n${whole}`).endsWith(end));
});

test("it tells what it knows", () => {
  freshRoot();
  const [, verbs = ""] = /step x1 0 ping-1 done (.*)/.exec(tell(message(["ping-1"]))) ?? [];
  assert.deepEqual(
    verbs.split(" ").sort(),
    [...new Set(steps.map((step) => step.split(" ")[0]))].concat("reload-sshd").sort(),
  );
});

test("the card's address is changed in the files that name it, and nowhere else", () => {
  freshRoot();
  const card = (name: string, index: number, address: string, device: boolean) => {
    write(`sys/class/net/${name}/type`, "1\n");
    write(`sys/class/net/${name}/ifindex`, `${index}\n`);
    write(`sys/class/net/${name}/address`, `${address}\n`);
    if (device) write(`sys/class/net/${name}/device/vendor`, "");
  };
  card("br0", 1, "52:54:00:00:00:01", false);
  card("ens9", 9, "52:54:00:00:00:09", true);
  card("ens2", 2, "52:54:00:aa:bb:cc", true);
  const network = "[Match]\nMACAddress=52:54:00:AA:bb:cc 52:54:00:00:00:09\n# 52:54:00:aa:bb:cc:dd\n";
  write("etc/systemd/network/10-a.network", network);
  chmodSync(join(root, "etc/systemd/network/10-a.network"), 0o640);
  write("etc/netplan/50-cloud-init.yaml", `match: {macaddress: "52:54:00:aa:bb:cc"}\n`);
  write("etc/netplan/other", "untouched");
  symlinkSync("/etc/hosts", join(root, "etc/netplan/link.yaml"));
  const before = statSync(join(root, "etc/netplan/other")).ino;
  assert.match(tell(message(["mac 52:54:00:12:34:56"])), /mac skipped/); // the card itself is the kernel's
  assert.equal(
    text("etc/systemd/network/10-a.network"),
    "[Match]\nMACAddress=52:54:00:12:34:56 52:54:00:00:00:09\n# 52:54:00:aa:bb:cc:dd\n",
  );
  assert.equal(statSync(join(root, "etc/systemd/network/10-a.network")).mode & 0o777, 0o640);
  assert.equal(text("etc/netplan/50-cloud-init.yaml"), `match: {macaddress: "52:54:00:12:34:56"}\n`);
  assert.equal(statSync(join(root, "etc/netplan/other")).ino, before);
});

test("a file that is given to somebody is that user's, in a directory that is there", () => {
  freshRoot();
  mkdirSync(join(root, "home/a/.ssh"), { recursive: true });
  const owner = process.geteuid?.() === 0 ? 12345 : statSync(root).uid;
  chownSync(join(root, "home/a/.ssh"), owner, statSync(root).gid);
  const key = Buffer.from("key").toString("base64");
  const answer = tell(
    message([`own-file /home/a/.ssh/keys 600 ${key}`, `own-file /home/b/.ssh/keys 600 ${key}`]),
  );
  assert.match(answer, /0 own-file done.*\n.*1 own-file failed No such file/);
  const { uid, mode } = statSync(join(root, "home/a/.ssh/keys"));
  assert.deepEqual([uid, mode & 0o777], [owner, 0o600]);
});

test("what cloud-init tells of the running system is told of the new instance, and nothing else in it changes", () => {
  freshRoot();
  const data = (id: string, name: string) => ({
    ds: { meta_data: { "instance-id": id, "local-hostname": name, "public-keys": ["local_hostname"] } },
    merged_cfg: { hostname: "old", runcmd: ['echo "instance_id": "old"'], distro: "old" },
    v1: { instance_id: id, local_hostname: name, region: null, subplatform: 'a "b" (/dev/vdb)' },
  });
  const shown = (id: string, name: string) => `${JSON.stringify(data(id, name), null, 1)}\n`;
  write("run/cloud-init/.instance-id", "old\n");
  write("run/cloud-init/instance-data.json", shown("old", "old"));
  // Without an end of its last line.
  write("run/cloud-init/instance-data-sensitive.json", shown("old", "old").trimEnd());
  chmodSync(join(root, "run/cloud-init/instance-data-sensitive.json"), 0o600);
  const renamed = message(["hostname web", "instance 1-2"]);
  assert.doesNotMatch(tell(renamed + renamed), /failed/);
  assert.equal(text("run/cloud-init/.instance-id"), "1-2\n");
  assert.equal(text("run/cloud-init/instance-data.json"), shown("1-2", "web"));
  assert.equal(text("run/cloud-init/instance-data-sensitive.json"), shown("1-2", "web").trimEnd());
  assert.equal(statSync(join(root, "run/cloud-init/instance-data-sensitive.json")).mode & 0o777, 0o600);
  write("run/cloud-init/instance-data.json", "x".repeat(128 * 1024));
  assert.match(tell(renamed), /instance failed File too large/);
  assert.equal(readlinkSync(join(root, "var/lib/cloud/instance")), "/var/lib/cloud/instances/1-2");
});

test("it says whether a file is there", () => {
  freshRoot();
  assert.match(tell(message(["has /etc/hosts", "has /etc/nothing"])), /0 has done.*\n.*1 has skipped/);
  const key = Buffer.from("key").toString("base64");
  const [there, missing] = [`replace /etc/hosts 600 ${key}`, `replace /etc/nothing 600 ${key}`];
  assert.match(tell(message([there, missing])), /0 replace done.*\n.*1 replace skipped/);
  assert.equal(text("etc/hosts"), "key");
  assert.throws(() => text("etc/nothing"));
  const rest = ["unless /etc/nothing", "hostname one", "unless /etc/hosts", "hostname two", "sync"];
  assert.match(tell(message(rest)), /0 unless skipped.*2 unless done.*3 hostname skipped.*4 sync skipped/s);
  assert.equal(text("etc/hostname"), "one\n");
});

test("the journal goes with the machine's id", () => {
  freshRoot();
  const [old, fresh] = ["b".repeat(32), "a".repeat(32)];
  write("etc/machine-id", `${old}\n`);
  write(`var/log/journal/${old}/system.journal`, "x");
  const twice = message([`machine-id ${fresh}`]);
  assert.doesNotMatch(tell(twice + twice), /failed/);
  assert.equal(text(`var/log/journal/${fresh}/system.journal`), "x");
  assert.equal(readlinkSync(join(root, `var/log/journal/${old}`)), fresh);
  assert.doesNotMatch(tell(message([`machine-id ${old}`])), /failed/);
  assert.equal(text(`var/log/journal/${old}/system.journal`), "x");
  assert.equal(readlinkSync(join(root, `var/log/journal/${fresh}`)), old);
});

test("what is frozen thaws by itself when nobody speaks any more; what cannot be frozen whole is not", async () => {
  freshRoot();
  const slices = ["system.slice", "user.slice", "machine.slice"];
  for (const slice of slices) {
    write(`sys/fs/cgroup/${slice}/cgroup.freeze`, "0\n");
    write(`sys/fs/cgroup/${slice}/cgroup.events`, "frozen 0\nfrozen 1\n"); // as if each were done at once
  }
  const states = () => slices.map((slice) => text(`sys/fs/cgroup/${slice}/cgroup.freeze`)[0]).join("");
  const child = spawn(program, ["--root", root]);
  let said = "";
  child.stdout.on("data", (bytes) => {
    said += bytes;
  });
  try {
    child.stdin.write(message(["freeze 1"]));
    await eventually(
      () => said.includes("end x1 1"),
      () => said,
    );
    assert.match(said, /freeze done/);
    await eventually(
      () => states() === "000",
      () => `the slices are ${states()}`,
    );
    child.stdin.write(message(["freeze 600", "thaw", "freeze 600"]));
    await eventually(
      () => said.includes("end x1 3"),
      () => said,
    );
    assert.equal(states(), "111");
  } finally {
    child.stdin.end();
    await once(child, "close");
  }
  write("sys/fs/cgroup/user.slice/cgroup.events", "frozen 0\n"); // it does not freeze
  assert.match(tell(message(["freeze 9"])), /freeze failed/);
  assert.equal(states(), "000");
  write("proc/self/cgroup", "0::/system.slice/skep-helper.service\n");
  assert.match(tell(message(["freeze 9"])), /freeze failed Resource deadlock/);
  assert.equal(states(), "000");
});

test("altered bytes are never an error of memory, nor the helper's end", () => {
  freshRoot();
  const random = seeded(1);
  for (let run = 0; run < 100; run++) {
    const bytes = Buffer.from(whole + whole);
    for (let change = random(20); change >= 0; change--) bytes[random(bytes.length)] = random(256);
    tell(bytes);
  }
});

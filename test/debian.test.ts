import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdir, readdir, readFile, readlink, stat, symlink, utimes, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { Terminal } from "./pty.ts";
import { eventually, Installation, root } from "./support.ts";

/** An emulated guest on a machine that does something else as well. */
const patience = { timeout: 15 * 60_000 };
const value = " a'b\"c  $HOME $(id) `id` \\n \\";
const userData = `#cloud-config
users:
  - default
  - name: alice
    shell: /bin/bash
write_files:
  - path: /etc/skep-test
    content: written by user-data
runcmd:
  - [sh, -c, "echo ran > /run/skep-test"]
`;

let skep: Installation;
let ssh: string[];
const exec = (command: readonly string[], options: Parameters<Installation["skep"]>[1] = {}) =>
  skep.skep(["exec", "web", "--", ...command], options);
/** Runs lines in the guest's shell. */
const guest = async (script: string, status = 0): Promise<string> =>
  (await exec(["sh", "-s"], { input: script, status })).stdout;

describe("a Debian guest", patience, () => {
  before(async () => {
    skep = await Installation.make(["debian-12"]);
    const key = join(skep.home, "extra");
    await skep.command("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-C", "extra@test", "-f", key]);
    await writeFile(join(skep.home, "user-data"), userData);
    await skep.skep([
      ...["new", "web", "--image", "debian-12", "--memory", "768M", "--start", "--wait"],
      ...["--user-data", join(skep.home, "user-data"), "--ssh-key", `${key}.pub`],
      ...["--env", `VALUE=${value}`, "--env", "PLAIN=x"],
      ...["--publish", "0:80", "--data-disk", "1G", "--disk", "6G"],
    ]);
    ssh = ["-F", join(skep.home, "ssh/config"), "-o", "BatchMode=yes"];
    // What `cloud-init status --wait` waits for, and cloud-init query reads: each start of its Python takes seconds.
    await guest("until [ -e /run/cloud-init/result.json ]; do sleep 1; done");
  }, patience);
  after(() => skep[Symbol.asyncDispose]());

  it("is made as it was asked for", async () => {
    const { id, mac } = await skep.machine("web");
    const said = await guest(`
      hostname
      cat /var/lib/cloud/data/instance-id
      cat /sys/class/net/e*/address
      cat /etc/skep-test; echo
      cat /run/skep-test
      id -un
      getent passwd alice | cut -d: -f7
      lsblk -bdno SIZE /dev/vda /dev/vdb
      cat /etc/machine-id
      cut -d' ' -f3 .ssh/authorized_keys | sort | tr '\\n' ' '; echo
    `);
    const lines = said.trimEnd().split("\n");
    assert.deepEqual(lines.slice(0, 7), [
      "web",
      id,
      mac,
      "written by user-data",
      "ran",
      "debian",
      "/bin/bash",
    ]);
    assert.deepEqual(
      lines.slice(7, 9).map((size) => Number(size)),
      [6 * 1024 ** 3, 1024 ** 3],
    );
    assert.equal(lines[9], id.replaceAll("-", ""));
    assert.match(lines[10] ?? "", /\bextra@test\b.*\bskep\b/);
    const rootBytes = Number(await guest("df -B1 --output=size / | tail -1"));
    assert.ok(rootBytes > 5.5 * 1024 ** 3, `the root file system has ${rootBytes} bytes`);
  });

  it("boots without a complaint of cloud-init or systemd", async () => {
    const result = JSON.parse(await guest("cat /run/cloud-init/result.json"));
    assert.deepEqual(result.v1.errors, []);
    const schema = await guest("sudo cloud-init schema --system 2>&1");
    assert.match(schema, /Valid/);
    assert.equal(await guest("systemctl --failed --no-legend"), "");
    const whole = await exec(["systemctl", "is-system-running", "--wait"], { status: null });
    assert.equal(whole.stdout, "running\n");
  });

  it("has the variables given, exactly, also for ssh", async () => {
    assert.equal((await exec(["printenv", "VALUE"])).stdout, `${value}\n`);
    assert.equal((await skep.command("ssh", [...ssh, "web.skep", "printenv VALUE"])).stdout, `${value}\n`);
    const refused = await skep.skep(["new", "hash", "--env", "PASSWORD=a#b"], { status: null });
    assert.match(refused.stderr, /"PASSWORD".*"#"/);
    assert.deepEqual(
      (await skep.machines()).map(({ name }) => name),
      ["web"],
    );
  });

  const statuses: [string, string, number][] = [
    ["success", "exit 0", 0],
    ["failure", "exit 1", 1],
    ["the highest status", "exit 255", 255],
    ["a signal", "kill -TERM $$", 143],
  ];
  it("ends exec as the command did", async () => {
    for (const [what, script, status] of statuses) {
      const { status: got } = await exec(["sh", "-c", script], { status: null });
      assert.equal(got, status, what);
    }
  });

  it("keeps the streams of exec apart, and passes megabytes and any argument", async () => {
    const both = await exec(["sh", "-c", "echo out; echo err >&2"]);
    assert.deepEqual([both.stdout, both.stderr], ["out\n", "err\n"]);
    const input = Buffer.alloc(3_000_000, "0123456789abcdef\n");
    const there = (await exec(["sha256sum"], { input })).stdout.split(" ")[0];
    const here = (await skep.command("sha256sum", [], input.toString())).stdout.split(" ")[0];
    assert.equal(there, here);
    const { stdout } = await exec(["head", "-c", "3000000", "/dev/zero"]);
    assert.equal(stdout.length, 3_000_000);
    const nasty = "a b;$(id)`id`'\"\\*\n#";
    assert.equal((await exec(["printf", "%s|", nasty, ""])).stdout, `${nasty}||`);
  });

  for (const [whose, user] of [
    ["the login user's", []],
    ["root's", ["--user", "root"]],
  ] as const) {
    it(`ends ${whose} command on Ctrl-C, without a terminal and with one`, async () => {
      const seconds = user.length === 0 ? "1001" : "1002";
      const command = ["--", "sh", "-c", `echo up; exec sleep ${seconds}`];
      const child = skep.spawn(["exec", "web", ...user, ...command]);
      await once(child.stdout, "data");
      child.kill("SIGINT");
      assert.deepEqual(await once(child, "close"), [130, null]);
      await using tty = new Terminal(skep, ["exec", "web", "-t", ...user, ...command]);
      await tty.until(/up/);
      tty.type("\x03");
      assert.equal(await tty.status, 130);
      assert.equal(await guest(`pgrep -fx 'sleep ${seconds}' || true`), "");
    });
  }

  it("lets sudo reach another user, and says so where it cannot", async () => {
    const script = 'id -un; echo "$HOME $A"; exit 5';
    const root = await skep.skep(["exec", "web", "-u", "root", "-e", "A=x #y", "--", "sh", "-c", script], {
      status: 5,
    });
    assert.equal(root.stdout, "root\n/root x #y\n");
    const alice = await skep.skep(["shell", "web", "-u", "alice"], { input: "id -un; pwd" });
    assert.equal(alice.stdout, "alice\n/home/alice\n");
    const nobody = await skep.skep(["exec", "web", "-u", "nosuch", "--", "id"], { status: null });
    assert.match(nobody.stderr, /^skep: user "debian".*may not run commands as "nosuch": sudo: unknown user/);
    assert.notEqual(nobody.status, 0);
  });

  it("keeps one ssh login for all of this", async () => {
    const server = "echo $PPID; pgrep -u debian -x sshd";
    const [pid = "", ...all] = (await guest(server)).trimEnd().split("\n");
    assert.deepEqual(all, [pid]);
    assert.equal(await guest(server), `${pid}\n${pid}\n`);
  });

  it("opens a shell that is a terminal", async () => {
    await using tty = new Terminal(skep, ["shell", "web"], { columns: 100, rows: 30 });
    await tty.until(/debian@web:~\$ /);
    tty.type("stty size\r");
    await tty.until(/30 100/);
    await tty.resize(120, 40);
    tty.type("while [ \"$(stty size)\" != '40 120' ]; do sleep 0.1; done; echo foll''owed\r");
    await tty.until(/followed/);
    tty.type("(exit 7)\r\x04");
    assert.equal(await tty.status, 7);
  });

  it("copies files and directories both ways, as they are", async () => {
    const source = join(skep.home, "source");
    await mkdir(join(source, "sub"), { recursive: true });
    await writeFile(join(source, "a"), "a\n", { mode: 0o640 });
    await writeFile(join(source, "sub/b"), "b\n", { mode: 0o755 });
    await utimes(join(source, "a"), 1_577_934_245, 1_577_934_245);
    await symlink("a", join(source, "link"));
    await skep.skep(["cp", source, "web:/tmp/copy"]);
    await skep.skep(["cp", join(source, "a"), "web:/tmp/copy/sub"]);
    const there = await guest(
      "cd /tmp/copy; stat -c '%n %a %Y' a sub/a; stat -c '%n %a' sub/b; readlink link",
    );
    assert.equal(there, "a 640 1577934245\nsub/a 640 1577934245\nsub/b 755\na\n");
    const back = join(skep.home, "back");
    await skep.skep(["cp", "web:/tmp/copy", back]);
    const { mode, mtimeMs } = await stat(join(back, "a"));
    assert.deepEqual([mode & 0o777, mtimeMs], [0o640, 1_577_934_245_000]);
    assert.equal(await readlink(join(back, "link")), "a");
    assert.deepEqual((await readdir(join(back, "sub"))).sort(), ["a", "b"]);
    const listed = await skep.command("sh", [
      "-c",
      '"$0" cp web:/tmp/copy/sub - | tar t',
      join(root, "skep"),
    ]);
    assert.match(listed.stdout, /sub\/b/);
    await skep.skep(["cp", "-u", "root", join(source, "a"), "web:/root/renamed"]);
    await skep.skep(["cp", "-u", "root", "web:/root/renamed", join(skep.home, "mine")]);
    assert.equal(await readFile(join(skep.home, "mine"), "utf8"), "a\n");
  });

  it("says clearly what it cannot copy", async () => {
    const source = join(skep.home, "user-data");
    const refusals: [string[], RegExp][] = [
      [["web:/nosuch", skep.home], /web:\/nosuch does not exist/],
      [[source, "web:/root/x"], /\/root/],
      [[source, "web:/nosuch/x"], /directory that does not exist/],
      [[join(skep.home, "nosuch"), "web:/tmp"], /nosuch: no such file/],
    ];
    for (const [paths, message] of refusals) {
      const refused = await skep.skep(["cp", ...paths], { status: null });
      assert.notEqual(refused.status, 0);
      assert.match(refused.stderr, message);
    }
  });

  it("lets ssh and scp in by the generated configuration, with its host key pinned", async () => {
    const known = join((await skep.machine("web")).directory, "known_hosts");
    const pinned = await readFile(known, "utf8");
    assert.match(pinned, /^web\.skep ssh-ed25519 /);
    const copied = await skep.command("scp", [...ssh, "-q", "web.skep:/etc/hostname", join(skep.home, "h")]);
    assert.equal(copied.status, 0, copied.stderr);
    assert.equal(await readFile(join(skep.home, "h"), "utf8"), "web\n");
    const other = await readFile(join(skep.home, "extra.pub"), "utf8");
    await writeFile(known, `web.skep ${other}`);
    try {
      const refused = await skep.command("ssh", [...ssh, "web.skep", "true"]);
      assert.equal(refused.status, 255);
      assert.match(refused.stderr, /verification failed/);
    } finally {
      await writeFile(known, pinned);
    }
  });

  it("takes forwards while it runs", async () => {
    const server = skep.spawn([
      "exec",
      "web",
      "--",
      "python3",
      "-u",
      "-m",
      "http.server",
      "-d",
      "/etc",
      "8000",
    ]);
    try {
      await once(server.stdout, "data");
      await skep.skep(["port", "add", "web", "0:8000"]);
      const port = (await skep.machine("web")).ports.find(({ guestPort }) => guestPort === 8000);
      const answer = await fetch(`http://127.0.0.1:${port?.hostPort}/hostname`);
      assert.equal(await answer.text(), "web\n");
    } finally {
      server.kill("SIGINT");
      await once(server, "close");
    }
  });

  it("shows what its console printed, and follows it until interrupted", async () => {
    assert.match((await skep.skep(["logs", "web"])).stdout, /Cloud-init v\. \S+ finished/);
    assert.equal((await skep.skep(["logs", "web", "-n", "2"])).stdout.trimEnd().split("\n").length, 2);
    const follower = skep.spawn(["logs", "-f", "-n", "0", "web"]);
    let followed = "";
    follower.stdout.on("data", (text) => {
      followed += text;
    });
    await eventually(
      async () => {
        await guest("echo printed now | sudo tee /dev/console >/dev/null");
        return /printed now/.test(followed);
      },
      () => "nothing was followed",
    );
    follower.kill("SIGINT");
    await once(follower, "close");
    assert.match((await skep.skep(["logs", "web", "--since", "10m"])).stdout, /printed now/);
  });

  it("shuts down cleanly at a press of the power button", async () => {
    await skep.skep(["stop", "web"]);
    const { state, reason, directory } = await skep.machine("web");
    assert.deepEqual([state, reason], ["stopped", null]);
    const check = await skep.command("qemu-img", ["check", join(directory, "disk.qcow2")]);
    assert.equal(check.status, 0, check.stderr);
    assert.match((await skep.skep(["logs", "web", "-n", "20"])).stdout, /Power down|Power-Off|reboot: /i);
  });

  it("is not waited for when its kernel panics, and stays to be looked at", async () => {
    await skep.skep(["edit", "web", "--kernel-args", "rdinit=/nonexistent init=/nonexistent"]);
    const slow = await skep.skep(["start", "web", "--wait", "--timeout", "1s"], { status: null });
    assert.match(slow.stderr, /machine "web" runs but did not answer within 1 s/);
    const failed = await skep.skep(["start", "web", "--wait"], { status: 1 });
    assert.match(failed.stderr, /kernel of machine "web" has panicked[\s\S]*Kernel panic - not syncing/);
    assert.equal((await skep.machine("web")).state, "running");
    await skep.skep(["stop", "--force", "web"]);
  });
});

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { after, before, describe, it } from "node:test";
import { Installation } from "./support.ts";
import { killMachine, killUnderLoad } from "./volume-kill.ts";

/** A row a transaction, told after its commit. What is in a row follows from its number. */
const rows = `
import hashlib, sqlite3, sys
db = sqlite3.connect("/data/rows.db", isolation_level=None, timeout=600)
db.execute("pragma journal_mode=wal")
db.execute("pragma synchronous=full")
db.execute("create table if not exists rows (n integer primary key, body blob)")
def body(n):
    return hashlib.sha256(str(n).encode()).digest() * (n % 200)
`;
const writeRows = `${rows}
n = db.execute("select coalesce(max(n), 0) from rows").fetchone()[0]
while True:
    n += 1
    db.execute("insert into rows values (?, ?)", (n, body(n)))
    print(n, flush=True)
`;
const checkRows = `${rows}
assert db.execute("pragma integrity_check").fetchall() == [("ok",)]
last = 0
for n, found in db.execute("select n, body from rows order by n"):
    assert n == last + 1 and found == body(n), n
    last = n
print(last)
`;

let skep: Installation;
const guest = async (script: string): Promise<string> =>
  (await skep.skep(["exec", "web", "--", "sh", "-eus"], { input: script })).stdout.trim();
const python = (program: string) => `python3 - <<'END'\n${program}\nEND`;

describe("a database on a volume, while storaged and skepd are killed", { timeout: 28 * 60_000 }, () => {
  before(async () => {
    skep = await Installation.make(["debian-12"]);
    await skep.skep(["new", "web", "--image", "debian-12", "--memory", "768M", "--start", "--wait"]);
  });
  after(() => skep[Symbol.asyncDispose]());

  for (const durability of ["local", "remote"] as const) {
    it(`has every commit that the guest saw, and a clean file system (${durability})`, async (t) => {
      const words = ["vol", "add", "--size", "512M", "--durability", durability, "--json"];
      const { id } = JSON.parse((await skep.skep(words)).stdout) as { id: string };
      await skep.skep(["vol", "attach", id, "web"]);
      const disk = `/dev/disk/by-id/virtio-${id.replace("-", "")}`;
      const mount = `sudo udevadm wait -t 60 ${disk}; sudo mkdir -p /data; sudo mount ${disk} /data`;
      await guest(
        `sudo udevadm wait -t 60 ${disk}; sudo mkfs.ext4 -q ${disk}; ${mount}; sudo chown debian /data`,
      );

      const acknowledged = await writeWhileKilled(12);
      await killMachine(skep, "web");
      await skep.skep(["start", "web", "--wait"]);
      const check = `${mount}; ${python(checkRows)}\nsudo umount /data; sudo e2fsck -fn ${disk} >&2`;
      const found = Number(await guest(check));
      t.diagnostic(`${acknowledged} commits seen, ${found} found`);
      assert.ok(found >= acknowledged, `${acknowledged} commits were seen, ${found} are there`);
      await skep.skep(["vol", "detach", id]);
      await skep.skep(["vol", "check", id]);
      await skep.skep(["vol", "rm", id]);
    });
  }
});

/** The last number that the guest has told. It writes over ssh, which needs neither of the two. */
async function writeWhileKilled(kills: number): Promise<number> {
  let last = 0;
  const command = ["-F", join(skep.home, "ssh/config"), "-o", "BatchMode=yes", "web.skep"];
  const ssh = spawn("ssh", [...command, `python3 -u -c '${writeRows}'`], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  let isOver = false;
  const ended = new Promise<void>((resolve) => {
    ssh.once("close", () => {
      isOver = true;
      resolve();
    });
  });
  try {
    createInterface({ input: ssh.stdout }).on("line", (line) => {
      last = Number(line);
    });
    await killUnderLoad(skep, kills, () => {
      assert.ok(!isOver, `the guest has stopped writing at ${last}`);
      return last;
    });
    return last;
  } finally {
    ssh.kill("SIGKILL");
    await ended;
  }
}

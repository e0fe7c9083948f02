import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { Installation } from "./support.ts";

let skep: Installation;
const guest = async (name: string, script: string): Promise<string> =>
  (await skep.skep(["exec", name, "--", "sh", "-s"], { input: script })).stdout.trim();
/** What no two machines may share. */
const identity = `
  cloud-init status --wait >/dev/null
  hostname; cat /etc/machine-id; sudo cloud-init query instance_id; cat /etc/ssh/ssh_host_*.pub | cut -d' ' -f1,2`;

describe("a machine made from another", { timeout: 25 * 60_000 }, () => {
  before(async () => {
    skep = await Installation.make(["debian-12"]);
    await skep.skep(["new", "web", "--image", "debian-12", "--memory", "768M", "--disk", "4G", "--wait"]);
  });
  after(() => skep[Symbol.asyncDispose]());

  it("has its data and an identity of its own; each goes its own way", async () => {
    const before_ = (await guest("web", identity)).split("\n");
    await guest("web", "echo shared >kept; sync");
    const refused = await skep.skep(["new", "copy", "--from", "web"], { status: 1 });
    assert.match(refused.stderr, /stop it first/);
    await skep.skep(["stop", "web"]);
    await skep.skep(["new", "copy", "--from", "web"]);
    await skep.skep(["edit", "web", "--disk", "6G"]);
    await skep.skep(["start", "web", "copy", "--wait"]);

    const web = (await guest("web", identity)).split("\n");
    assert.deepEqual(web, before_);
    const copy = (await guest("copy", identity)).split("\n");
    assert.equal(copy[0], "copy");
    assert.equal(copy[2], (await skep.machine("copy")).id);
    assert.equal(copy.length, web.length);
    for (const [index, line] of copy.entries()) assert.notEqual(line, web[index]);

    assert.equal(await guest("copy", "cat kept"), "shared");
    await guest("web", "echo web >kept; sync");
    await guest("copy", "echo copy >kept; sync");
    assert.equal(await guest("web", "cat kept"), "web");
    assert.equal(await guest("copy", "cat kept"), "copy");
  });

  it("leaves the other's disk free to grow, and clean when it stopped", async () => {
    const rootBytes = async (name: string) =>
      Number(await guest(name, "df -B1 --output=size / | tail -1")) / 1024 ** 3;
    assert.ok((await rootBytes("web")) > 5.5);
    assert.ok((await rootBytes("copy")) < 4);
    assert.equal(await guest("web", "sudo journalctl -kq | grep -E 'EXT4-fs.*(recover|orphan)' || true"), "");
  });

  it("lives on when the other is removed", async () => {
    await skep.skep(["rm", "--force", "web"]);
    assert.equal(await guest("copy", "cat kept; sudo touch /after && sync && echo ok"), "copy\nok");
    await skep.skep(["restart", "copy", "--wait"]);
    assert.equal(await guest("copy", "ls /after; cat kept"), "/after\ncopy");
  });
});

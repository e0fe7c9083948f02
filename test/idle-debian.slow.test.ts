import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { Installation } from "./support.ts";

/** An emulated guest on a machine that does something else as well. */
const patience = { timeout: 30 * 60_000 };

let skep: Installation;

/** By plain ssh, as a person would. */
async function ssh(command: string): Promise<string> {
  const options = ["-F", join(skep.home, "ssh/config"), "-o", "BatchMode=yes"];
  const { stdout, stderr, status } = await skep.command("ssh", [...options, "web.skep", command]);
  assert.equal(status, 0, stderr);
  return stdout.trim();
}

/** A busy host lets its services take long until they have nothing to do. */
const asleep = () =>
  skep.until(
    "web",
    ({ state, suspended }) => state === "suspended" && suspended?.idle === true,
    "asleep",
    10 * 60_000,
  );

describe("a Debian guest that nobody uses", patience, () => {
  before(async () => {
    skep = await Installation.make(["debian-12"]);
    await skep.skep([
      ...["new", "web", "--image", "debian-12", "--memory", "768M", "--disk", "4G"],
      ...["--suspend-after", "30s", "--wait"],
    ]);
  });
  after(() => skep[Symbol.asyncDispose]());

  it("falls asleep once its first boot is over, and ssh to it just works", async (t) => {
    await asleep();
    assert.equal(await ssh("echo nonce >/dev/shm/nonce; echo there"), "there");
    const { state } = await skep.machine("web");
    assert.equal(state, "running");
    for (let round = 1; round <= 3; round += 1) {
      await asleep();
      const started = performance.now();
      assert.equal(await ssh("cat /dev/shm/nonce"), "nonce");
      t.diagnostic(`ssh to one that sleeps: ${Math.round(performance.now() - started)} ms`);
      const again = performance.now();
      await ssh("true");
      t.diagnostic(`ssh to one that is awake: ${Math.round(performance.now() - again)} ms`);
    }
  });

  it("has a session go on for as long as it is open", async () => {
    const said = await ssh("sleep 60; echo done; cat /dev/shm/nonce");
    assert.equal(said, "done\nnonce");
  });
});

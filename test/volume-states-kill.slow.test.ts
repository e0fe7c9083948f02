import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Random } from "@skep/objects/simulation";
import { killAndRevive, type Victim, victims } from "./volume-kill.ts";
import { VolumeGuest } from "./volume-states.ts";

const seed = Number(process.env.SKEP_KILL_SEED ?? 1);
const kills = Number(process.env.SKEP_KILLS ?? 30);
/** Longer than any verb takes on a machine that is not busy; where it is, the kill comes early. */
const longestMs = 4000;

let guest: VolumeGuest;
before(async () => {
  guest = await VolumeGuest.make();
  await guest.write("first");
  await guest.take("first");
});
after(() => guest?.[Symbol.asyncDispose]());

const all = (text: string) => [text, text, text];

/** Whatever a kill has left it in, it runs afterwards. */
async function wake(): Promise<void> {
  const settled = ["running", "suspended", "stopped"];
  const { state } = await guest.skep.until("web", (one) => settled.includes(one.state), "settled");
  if (state === "suspended") await guest.skep.skep(["resume", "web"]);
  if (state === "stopped") await guest.skep.skep(["start", "web", "--wait"]);
}

/** Copies that are there are whole; they go, with their volumes. */
async function removeCopies(text: string): Promise<void> {
  const copies = (await guest.skep.machines()).map(({ name }) => name).filter((name) => name !== "web");
  for (const name of copies) assert.deepEqual(await guest.holds(name), all(text));
  if (copies.length > 0) await guest.skep.skep(["rm", "--force", ...copies]);
  for (const { name } of await guest.host.list())
    if (name !== "data") await guest.host.vol(["rm", `${name}`]);
}

describe("storaged, skepd, or both, killed at any time of a verb on a machine with a volume", () => {
  const random = new Random(seed);
  const verbs = ["create", "create-disks", "restore", "rm", "fork"] as const;
  for (let kill = 0; kill < kills; kill += 1) {
    const verb = verbs[kill % verbs.length] as (typeof verbs)[number];
    const victim = random.pick(victims) as Victim;
    const afterMs = random.below(longestMs);
    it(`(${kill}: ${verb}, ${victim} after ${afterMs} ms) leave it done or not done, and nothing else`, async () => {
      const text = `t${kill}`;
      const name = `k${kill}`;
      await guest.write(text);
      if (verb === "rm") await guest.take(name);
      const args = {
        create: ["snapshot", "create", "web", name],
        "create-disks": ["snapshot", "create", "web", name, "--no-memory"],
        restore: ["snapshot", "restore", "web", "first"],
        rm: ["snapshot", "rm", "web", name],
        fork: ["fork", "web", "-n", "2"],
      }[verb];
      const asked = guest.skep.skep(args, { status: null });
      await sleep(afterMs);
      await killAndRevive(guest.skep, victim);
      await asked;
      await wake();
      const held = await guest.holds();
      const [volume, disk, memory] = held;
      assert.equal(volume, disk, held.join(" "));
      assert.ok(memory === volume || memory === "none", held.join(" "));
      assert.ok(volume === text || (verb === "restore" && volume === "first"), held.join(" "));
      await removeCopies(text);
      await guest.checkClean();
      for (const one of await guest.snapshots()) {
        assert.equal(one.problem, null);
        if (one.name === "first") continue;
        if (one.name === name || one.name.startsWith("before-restore")) {
          await guest.restore(one.name, "--discard");
          await wake();
          const [theirs, itsDisk] = await guest.holds();
          assert.deepEqual([theirs, itsDisk], [text, text], one.name);
        }
        await guest.skep.skep(["snapshot", "rm", "web", one.name]);
      }
      await guest.checkClean();
    });
  }
});

import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { run } from "@skep/base";
import { Random } from "@skep/objects/simulation";
import { eventually } from "./support.ts";
import { killAndRevive, victims } from "./volume-kill.ts";
import { VolumeGuest } from "./volume-states.ts";

const random = new Random(Number(process.env.SKEP_KILL_SEED ?? 1));
const kills = Number(process.env.SKEP_KILLS ?? 30);

let guest: VolumeGuest;
after(() => guest?.[Symbol.asyncDispose]());

/** What a kill has left is cleared away in the background. */
async function checkClean(): Promise<void> {
  let why: unknown;
  const isClean = async () => {
    try {
      await guest.checkClean();
      return true;
    } catch (error) {
      why = error;
      return false;
    }
  };
  await eventually(isClean, () => `it is not clean: ${(why as Error).message}`);
}

/** Asks for a verb, kills somebody meanwhile, and has all run again. */
async function killDuring(args: readonly string[], longestMs: number): Promise<string> {
  const victim = random.pick(victims) ?? "both";
  const afterMs = random.below(longestMs);
  const asked = guest.skep.skep(args, { status: null });
  await sleep(afterMs);
  await killAndRevive(guest.skep, victim);
  const { status } = await asked;
  return `${victim} was killed after ${afterMs} ms, and the verb gave ${status}`;
}

describe("storaged, skepd, or both, killed at any time of a verb on a machine that rests, with a volume", () => {
  before(async () => {
    guest = await VolumeGuest.make({ start: false });
    await write(1);
    await guest.take("first");
  });

  /** The volume's first block, while no machine has it. What is read may be another than the one asked for. */
  const io = async (...commands: string[]): Promise<string> => {
    const address = await guest.host.serve("data");
    const args = commands.flatMap((command) => ["-c", command]);
    const { stdout } = await run("qemu-io", ["-f", "raw", ...args, address], { okStatuses: [0, 1] });
    await guest.host.release("data");
    assert.match(stdout, /65536\/65536 bytes at offset 0/);
    return stdout;
  };
  const write = (number: number) => io(`write -P ${number} 0 64k`, "flush");
  const holds = async (number: number) => !/verification failed/.test(await io(`read -P ${number} 0 64k`));

  for (let kill = 0; kill < kills; kill += 1) {
    const verb = (["create", "restore", "rm"] as const)[kill % 3] ?? "create";
    it(`(${kill}: ${verb}) leave it done or not done, and nothing else`, async (t) => {
      const number = 2 + (kill % 250);
      const name = `k${kill}`;
      await write(number);
      if (verb === "rm") await guest.take(name);
      const how = await killDuring(
        ["snapshot", verb, "web", ...(verb === "restore" ? ["first", "--discard"] : [name])],
        1500,
      );
      t.diagnostic(how);
      await guest.skep.until("web", ({ state }) => state === "stopped", "stopped");
      // What is to be set back still is so before the next verb.
      await guest.take("probe");
      const isBack = verb === "restore" && (await holds(1));
      assert.ok(isBack || (await holds(number)), how);
      await guest.restore("first", "--discard");
      assert.ok(await holds(1), how);
      await guest.restore("probe", "--discard");
      assert.ok(await holds(isBack ? 1 : number), how);
      const names = (await guest.snapshots()).map((one) => one.name);
      if (names.includes(name)) {
        await guest.restore(name, "--discard");
        assert.ok(await holds(number), how);
      }
      await checkClean();
      await guest.skep.skep(["snapshot", "rm", "web", ...names.filter((one) => one !== "first")]);
      await checkClean();
    });
  }

  after(() => guest[Symbol.asyncDispose]());
});

describe("storaged, skepd, or both, killed at any time of a snapshot or a fork of a guest with a volume", () => {
  const all = (text: string) => [text, text, text];
  before(async () => {
    guest = await VolumeGuest.make();
  });

  /** Copies that are there are whole; they go, with their volumes. */
  const removeCopies = async (text: string) => {
    const copies = (await guest.skep.machines()).map(({ name }) => name).filter((name) => name !== "web");
    for (const name of copies) assert.deepEqual(await guest.holds(name), all(text));
    if (copies.length > 0) await guest.skep.skep(["rm", "--force", ...copies]);
    for (const { name } of await guest.host.list()) {
      if (name !== "data") await guest.host.vol(["rm", `${name}`], { status: null });
    }
  };

  for (let kill = 0; kill < Math.ceil(kills / 5); kill += 1) {
    it(`(${kill}) leave it done or not done, and the guest as it was`, async (t) => {
      const text = `t${kill}`;
      await guest.write(text);
      const verb = kill % 2 === 0 ? ["snapshot", "create", "web", text] : ["fork", "web", "-n", "2"];
      t.diagnostic(await killDuring(verb, 4000));
      await guest.skep.until("web", ({ state }) => state === "running", "running");
      assert.deepEqual(await guest.holds(), all(text));
      await removeCopies(text);
      await checkClean();
      if ((await guest.snapshots()).some(({ name }) => name === text)) {
        await guest.write("later");
        await guest.restore(text, "--discard");
        assert.deepEqual(await guest.holds(), all(text));
      }
    });
  }
});

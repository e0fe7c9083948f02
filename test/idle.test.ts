import assert from "node:assert/strict";
import { once } from "node:events";
import { connect } from "node:net";
import { after, before, describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { IdleGuest } from "./idle-guest.ts";

let guest: IdleGuest;

before(async () => {
  guest = await IdleGuest.make();
});
after(() => guest[Symbol.asyncDispose]());

describe("a machine that nobody uses", () => {
  it("is suspended after the time that was set, and answers the first connection to one of its ports", async () => {
    await guest.edit("--suspend-after", "2s");
    const { reason } = await guest.asleep();
    assert.equal(reason, null);
    assert.deepEqual(await guest.skep.qemuPids(), []);
    assert.match((await guest.skep.skep(["status", "web"])).stdout, /idle\s+asleep because nobody used it/);
    assert.equal(await guest.fetchFile("/ok"), "yes");
    await guest.checkCount();
    assert.equal(await guest.sh("cat /tmp/nonce"), "nonce");
  });

  it("is woken by a command and by its console", async () => {
    await guest.asleep();
    assert.equal(await guest.sh("cat /tmp/nonce"), "nonce");
    await guest.asleep();
    const { stdout } = await guest.skep.skep(["console", "web", "--linger", "1s"], { input: "\n" });
    assert.notEqual(stdout, "");
    await guest.checkCount();
  });
});

describe("a machine that is used", () => {
  const busy = (what: RegExp) =>
    guest.skep.until("web", ({ idle }) => what.test(idle?.busy ?? ""), `in use: ${what}`);

  it("stays awake while it has a connection, though nothing is sent", async () => {
    const socket = connect(guest.chosen, "127.0.0.1");
    await once(socket, "connect");
    const { idle } = await busy(/^a connection to its ports$/);
    await sleep(4000);
    const later = await guest.skep.machine("web");
    assert.equal(later.state, "running");
    assert.ok(Date.parse(later.idle?.since ?? "") > Date.parse(idle?.since ?? ""));
    socket.destroy();
    await guest.asleep();
  });
});

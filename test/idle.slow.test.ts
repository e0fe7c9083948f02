import assert from "node:assert/strict";
import { once } from "node:events";
import { readFile, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { Machine } from "@skep/api";
import { IdleGuest, refused } from "./idle-guest.ts";
import { eventually } from "./support.ts";

let guest: IdleGuest;

before(async () => {
  guest = await IdleGuest.make();
});
after(() => guest[Symbol.asyncDispose]());

describe("a machine that many come to", () => {
  before(() => guest.edit("--suspend-after", "2s"));

  it("is resumed once, however many come at the same time, to whichever port", async () => {
    await guest.asleep();
    const before_ = await guest.wakes();
    // Not more than the guest's own queue takes.
    const ports = Array.from({ length: 6 }, (_, at) => (at % 2 === 0 ? guest.chosen : guest.given));
    const answers = await Promise.all(ports.map((port) => guest.fetchFile("/ok", port)));
    assert.deepEqual(new Set(answers), new Set(["yes"]));
    assert.equal(await guest.wakes(), before_ + 1);
    await guest.checkCount();
  });
});

describe("a machine that is used in other ways", () => {
  const busy = (what: RegExp) =>
    guest.skep.until("web", ({ idle }) => what.test(idle?.busy ?? ""), `in use: ${what}`);

  before(() => guest.edit("--suspend-after", "2s"));

  it("stays awake while a command runs, its console is looked at, or its processor works", async () => {
    const command = guest.skep.spawn(["exec", "web", "--", "sleep", "1000"]);
    await busy(/^skep works with it$/);
    command.kill("SIGINT");
    await once(command, "close");
    const console = guest.skep.spawn(["console", "web", "--watch"]);
    await busy(/^its console is attached$/);
    console.kill("SIGTERM");
    await once(console, "close");
    await guest.sh("touch /tmp/work; (while [ -e /tmp/work ]; do :; done) >/dev/null 2>&1 &");
    await busy(/^its processors work/);
    await guest.sh("rm /tmp/work");
    await guest.asleep();
  });

  it("falls asleep although skep itself asks it how it is", async () => {
    // Seldom enough, and looked at over times that are long enough, that its work for a check is hardly any.
    const seldom = ["--suspend-after", "8s", "--check-interval", "1s"];
    await awakeWith("--check", "http:80/ok", ...seldom);
    await guest.skep.until("web", ({ liveness }) => liveness?.state === "passing", "passing");
    await guest.asleep();
    await awakeWith("--no-check", "--suspend-after", "2s");
  });

  async function awakeWith(...args: string[]): Promise<void> {
    await guest.edit(...args);
    await guest.fetchFile("/ok");
  }

  it("stays awake where one of its hooks fails, which is told", async () => {
    const hook = "/etc/skep/before-suspend.d/no";
    await guest.sh(
      `mkdir -p ${hook.replace(/\/no$/, "")}; printf '#!/bin/sh\\nexit 7\\n' >${hook}; chmod 755 ${hook}`,
    );
    const failed = ({ idle }: Machine) => idle?.failure !== null && idle?.failure !== undefined;
    const { state, idle } = await guest.skep.until("web", failed, "kept awake");
    assert.equal(state, "running");
    assert.match(idle?.failure ?? "", /hook \S*\/no ended with status 7/);
    assert.ok(Date.parse(idle?.retryAt ?? "") > Date.now());
    assert.match((await guest.skep.skep(["status", "web"])).stdout, /idle\s+2s, not suspended: .*; again in/);
    await guest.sh(`rm ${hook}`);
    // What was set anew is begun anew.
    await guest.edit("--suspend-after", "3s");
    await guest.asleep();
  });
});

describe("skepd", () => {
  it("holds the ports again after it was killed, in the middle of a machine's falling asleep, too", async () => {
    for (const patienceMs of [0, 400]) {
      await guest.skep.until("web", ({ state }) => state !== "running", "falling asleep");
      await sleep(patienceMs);
      await guest.skep.killDaemon();
      await refused(guest.chosen);
      for (const port of [guest.chosen, guest.given]) {
        await eventually(
          () =>
            guest.skep.machine("web").then(() =>
              guest.fetchFile("/ok", port).then(
                (said) => said === "yes",
                () => false,
              ),
            ),
          () => `port ${port} is lost`,
        );
      }
      await guest.checkCount();
    }
  });

  it("tells of a port that another program has taken meanwhile; the machine is usable all the same", async () => {
    await guest.asleep();
    await guest.skep.killDaemon();
    await refused(guest.chosen);
    await refused(guest.given);
    const [other, another] = [createServer(), createServer()];
    other.listen(guest.chosen, "127.0.0.1");
    another.listen(guest.given, "127.0.0.1");
    await Promise.all([once(other, "listening"), once(another, "listening")]);
    try {
      const held = await guest.skep.until("web", ({ reason }) => reason !== null, "told");
      assert.match(
        held.reason ?? "",
        new RegExp(`port ${guest.chosen} is not forwarded: another program uses it`),
      );
      await guest.skep.skep(["resume", "web"]);
      const { reason, ports } = await guest.skep.until(
        "web",
        ({ state, reason }) => state === "running" && reason !== null,
        "running without a port",
      );
      assert.match(reason ?? "", new RegExp(`port ${guest.chosen} is not forwarded`));
      assert.equal(await guest.sh("cat /tmp/nonce"), "nonce");
      const moved = ports.find(({ automatic }) => automatic)?.hostPort as number;
      assert.notEqual(moved, guest.given);
      guest.given = moved;
      assert.equal(await guest.fetchFile("/ok", guest.given), "yes");
    } finally {
      other.close();
      another.close();
    }
  });
});

describe("a machine that its user has suspended", () => {
  it("sleeps on, also one that was asleep by itself before", async () => {
    await guest.asleep();
    assert.equal(await guest.fetchFile("/ok", guest.given), "yes");
    await guest.asleep();
    await guest.skep.skep(["suspend", "web"]);
    await refused(guest.given);
    const { state, suspended } = await guest.skep.machine("web");
    assert.deepEqual([state, suspended?.idle], ["suspended", false]);
    const { stderr } = await guest.skep.skep(["exec", "web", "--", "true"], { status: null });
    assert.match(stderr, /web/);
    assert.equal((await guest.skep.machine("web")).state, "suspended");
  });

  it("stays awake once that is set", async () => {
    await guest.skep.skep(["resume", "web"]);
    await guest.edit("--suspend-after", "off");
    const { idle, suspendAfterSeconds } = await guest.skep.machine("web");
    assert.deepEqual([idle, suspendAfterSeconds], [null, null]);
    await guest.checkCount(guest.given);
  });
});

describe("one that cannot be woken", () => {
  it("says why, and closes the connections that wait", async () => {
    await guest.edit("--suspend-after", "1s");
    const { suspended } = await guest.asleep();
    const manifest = join(guest.skep.home, "states", suspended?.state as string, "manifest.json");
    const whole = await readFile(manifest, "utf8");
    await writeFile(manifest, whole.slice(0, 100));
    await assert.rejects(guest.fetchFile("/ok", guest.given), { code: "ECONNRESET" });
    const { reason } = await guest.skep.until("web", ({ reason }) => reason !== null, "told");
    assert.match(reason ?? "", /it could not be woken: state "st-[0-9a-f]+" is damaged/);
    await writeFile(manifest, whole);
    await guest.skep.skep(["resume", "web"]);
    assert.equal(await guest.fetchFile("/ok", guest.given), "yes");
  });
});

describe("one that is removed in its sleep", () => {
  it("leaves its ports to others", async () => {
    await guest.asleep();
    await guest.skep.skep(["rm", "web"]);
    await refused(guest.chosen);
    await refused(guest.given);
  });
});

import assert from "node:assert/strict";
import { once } from "node:events";
import { readFile, writeFile } from "node:fs/promises";
import { get } from "node:http";
import { type AddressInfo, connect, createServer } from "node:net";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { after, before, describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { Machine } from "@skep/api";
import { eventually, Installation } from "./support.ts";

let skep: Installation;
/** Forwarded to the guest's web server: one that its user has chosen, and one that skep has. */
let chosen: number;
let given: number;
let counted = 0;

const marks = `
  echo nonce >/tmp/nonce; mkdir -p /www; echo yes >/www/ok; httpd -p 80 -h /www
  (i=0; while :; do i=$((i + 1)); echo $i >/www/count; sleep 1; done) >/dev/null 2>&1 &
`;

before(async () => {
  skep = await Installation.make();
  chosen = await freePort();
  await skep.skep([
    ...["new", "web", "--image", "tiny", "--memory", "96M", "--cpus", "1"],
    // On a host that is busy with other tests, a guest's first look at its timer may find it standing.
    ...["--kernel-args", "no_timer_check", "-p", `${chosen}:80`, "-p", "0:80", "--start", "--wait"],
  ]);
  const { ports } = await skep.machine("web");
  given = ports.find(({ automatic }) => automatic)?.hostPort as number;
  await sh(marks);
});
after(() => skep[Symbol.asyncDispose]());

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  return port;
}

async function sh(script: string): Promise<string> {
  return (await skep.skep(["exec", "web", "--", "sh", "-c", script])).stdout.trim();
}

/** Over the forward, by one connection, which comes to its end whatever the machine was. */
async function fetchFile(path: string, port = chosen): Promise<string> {
  const request = get({ host: "127.0.0.1", port, path, agent: false });
  const [answer] = await once(request, "response");
  return (await text(answer)).trim();
}

/** It goes on where it was, and was not booted. */
async function checkCount(): Promise<void> {
  const count = Number(await fetchFile("/count"));
  assert.ok(count >= counted, `counted ${count} after ${counted}`);
  counted = count;
}

const edit = (...args: string[]) => skep.skep(["edit", "web", ...args]);
const asleep = () =>
  skep.until("web", ({ state, suspended }) => state === "suspended" && suspended?.idle === true, "idle");
const wakes = async () =>
  (await readFile(join(skep.home, "skepd.log"), "utf8")).split('"msg":"waking"').length - 1;

/** Nobody listens there; a process that was killed may do so for a moment more. */
async function refused(port: number): Promise<void> {
  await eventually(
    () =>
      once(connect(port, "127.0.0.1"), "connect").then(
        () => false,
        (error: NodeJS.ErrnoException) => error.code === "ECONNREFUSED",
      ),
    () => `somebody listens on port ${port}`,
  );
}

describe("a machine that nobody uses", () => {
  it("is suspended after the time that was set, and answers the first connection to one of its ports", async () => {
    await edit("--suspend-after", "2s");
    const { reason } = await asleep();
    assert.equal(reason, null);
    assert.deepEqual(await skep.qemuPids(), []);
    assert.match((await skep.skep(["status", "web"])).stdout, /idle\s+asleep because nobody used it/);
    assert.equal(await fetchFile("/ok"), "yes");
    await checkCount();
    assert.equal(await sh("cat /tmp/nonce"), "nonce");
  });

  it("is resumed once, however many come at the same time, to whichever port", async () => {
    await asleep();
    const before_ = await wakes();
    // Not more than the guest's own queue takes.
    const ports = Array.from({ length: 6 }, (_, at) => (at % 2 === 0 ? chosen : given));
    const answers = await Promise.all(ports.map((port) => fetchFile("/ok", port)));
    assert.deepEqual(new Set(answers), new Set(["yes"]));
    assert.equal(await wakes(), before_ + 1);
    await checkCount();
  });

  it("is woken by a command and by its console", async () => {
    await asleep();
    assert.equal(await sh("cat /tmp/nonce"), "nonce");
    await asleep();
    const { stdout } = await skep.skep(["console", "web", "--linger", "1s"], { input: "\n" });
    assert.notEqual(stdout, "");
    await checkCount();
  });
});

describe("a machine that is used", () => {
  const busy = (what: RegExp) =>
    skep.until("web", ({ idle }) => what.test(idle?.busy ?? ""), `in use: ${what}`);

  it("stays awake while it has a connection, though nothing is sent", async () => {
    const socket = connect(chosen, "127.0.0.1");
    await once(socket, "connect");
    const { idle } = await busy(/^a connection to its ports$/);
    await sleep(4000);
    const later = await skep.machine("web");
    assert.equal(later.state, "running");
    assert.ok(Date.parse(later.idle?.since ?? "") > Date.parse(idle?.since ?? ""));
    socket.destroy();
    await asleep();
  });

  it("stays awake while a command runs, its console is looked at, or its processor works", async () => {
    const command = skep.spawn(["exec", "web", "--", "sleep", "1000"]);
    await busy(/^skep works with it$/);
    command.kill("SIGINT");
    await once(command, "close");
    const console = skep.spawn(["console", "web", "--watch"]);
    await busy(/^its console is attached$/);
    console.kill("SIGTERM");
    await once(console, "close");
    await sh("touch /tmp/work; (while [ -e /tmp/work ]; do :; done) >/dev/null 2>&1 &");
    await busy(/^its processors work/);
    await sh("rm /tmp/work");
    await asleep();
  });

  it("falls asleep although skep itself asks it how it is", async () => {
    await awakeWith("--check", "http:80/ok", "--check-interval", "200ms");
    await skep.until("web", ({ liveness }) => liveness?.state === "passing", "passing");
    await asleep();
    await awakeWith("--no-check");
  });

  async function awakeWith(...args: string[]): Promise<void> {
    await edit(...args);
    await fetchFile("/ok");
  }

  it("stays awake where one of its hooks fails, which is told", async () => {
    const hook = "/etc/skep/before-suspend.d/no";
    await sh(
      `mkdir -p ${hook.replace(/\/no$/, "")}; printf '#!/bin/sh\\nexit 7\\n' >${hook}; chmod 755 ${hook}`,
    );
    const failed = ({ idle }: Machine) => idle?.failure !== null && idle?.failure !== undefined;
    const { state, idle } = await skep.until("web", failed, "kept awake");
    assert.equal(state, "running");
    assert.match(idle?.failure ?? "", /hook \S*\/no ended with status 7/);
    assert.ok(Date.parse(idle?.retryAt ?? "") > Date.now());
    assert.match((await skep.skep(["status", "web"])).stdout, /idle\s+2s, not suspended: .*; again in/);
    await sh(`rm ${hook}`);
    // What was set anew is begun anew.
    await edit("--suspend-after", "3s");
    await asleep();
  });
});

describe("skepd", () => {
  it("holds the ports again after it was killed, in the middle of a machine's falling asleep, too", async () => {
    for (const patienceMs of [0, 400]) {
      await skep.until("web", ({ state }) => state !== "running", "falling asleep");
      await sleep(patienceMs);
      await skep.killDaemon();
      await refused(chosen);
      for (const port of [chosen, given]) {
        await eventually(
          () =>
            skep.machine("web").then(() =>
              fetchFile("/ok", port).then(
                (said) => said === "yes",
                () => false,
              ),
            ),
          () => `port ${port} is lost`,
        );
      }
      await checkCount();
    }
  });

  it("tells of a port that another program has taken meanwhile; the machine is usable all the same", async () => {
    await asleep();
    await skep.killDaemon();
    await refused(chosen);
    await refused(given);
    const [other, another] = [createServer(), createServer()];
    other.listen(chosen, "127.0.0.1");
    another.listen(given, "127.0.0.1");
    await Promise.all([once(other, "listening"), once(another, "listening")]);
    try {
      const held = await skep.until("web", ({ reason }) => reason !== null, "told");
      assert.match(held.reason ?? "", new RegExp(`port ${chosen} is not forwarded: another program uses it`));
      await skep.skep(["resume", "web"]);
      const { reason, ports } = await skep.until(
        "web",
        ({ state, reason }) => state === "running" && reason !== null,
        "running without a port",
      );
      assert.match(reason ?? "", new RegExp(`port ${chosen} is not forwarded`));
      assert.equal(await sh("cat /tmp/nonce"), "nonce");
      const moved = ports.find(({ automatic }) => automatic)?.hostPort as number;
      assert.notEqual(moved, given);
      given = moved;
      assert.equal(await fetchFile("/ok", given), "yes");
    } finally {
      other.close();
      another.close();
    }
  });
});

describe("a machine that its user has suspended", () => {
  it("sleeps on, also one that was asleep by itself before", async () => {
    await asleep();
    assert.equal(await fetchFile("/ok", given), "yes");
    await asleep();
    await skep.skep(["suspend", "web"]);
    await refused(given);
    const { state, suspended } = await skep.machine("web");
    assert.deepEqual([state, suspended?.idle], ["suspended", false]);
    const { stderr } = await skep.skep(["exec", "web", "--", "true"], { status: null });
    assert.match(stderr, /web/);
    assert.equal((await skep.machine("web")).state, "suspended");
  });

  it("stays awake once that is set", async () => {
    await skep.skep(["resume", "web"]);
    await edit("--suspend-after", "off");
    const { idle, suspendAfterSeconds } = await skep.machine("web");
    assert.deepEqual([idle, suspendAfterSeconds], [null, null]);
    assert.ok(Number(await fetchFile("/count", given)) >= counted);
  });
});

describe("one that cannot be woken", () => {
  it("says why, and closes the connections that wait", async () => {
    await edit("--suspend-after", "1s");
    const { suspended } = await asleep();
    const manifest = join(skep.home, "states", suspended?.state as string, "manifest.json");
    const whole = await readFile(manifest, "utf8");
    await writeFile(manifest, whole.slice(0, 100));
    await assert.rejects(fetchFile("/ok", given), { code: "ECONNRESET" });
    const { reason } = await skep.until("web", ({ reason }) => reason !== null, "told");
    assert.match(reason ?? "", /it could not be woken: state "st-[0-9a-f]+" is damaged/);
    await writeFile(manifest, whole);
    await skep.skep(["resume", "web"]);
    assert.equal(await fetchFile("/ok", given), "yes");
  });
});

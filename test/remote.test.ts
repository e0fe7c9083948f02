import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { eventually, Installation, type SkepOptions } from "./support.ts";

let server: Installation;
/** Another host as far as skep can tell: its own home and configuration, and no skepd. */
let client: Installation;
let host: string;
let token: string;

before(async () => {
  server = await Installation.make();
  client = await Installation.make([]);
  await server.skep(["daemon", "start", "--listen", "127.0.0.1:0"]);
  host = `https://${await listening()}`;
  token = (await server.skep(["token", "create", "laptop", "--expires", "1h"])).stdout.trim();
});
after(async () => {
  await client[Symbol.asyncDispose]();
  await server[Symbol.asyncDispose]();
});

async function listening(): Promise<string> {
  return JSON.parse((await server.skep(["daemon", "status", "--json"])).stdout).listen;
}

const remoteOptions = (options: SkepOptions): SkepOptions => ({
  ...options,
  env: { SKEP_HOST: host, SKEP_TOKEN: token, ...options.env },
});
const remote = (args: readonly string[], options: SkepOptions = {}) =>
  client.skep(args, remoteOptions(options));

describe("access over the network", () => {
  it("needs a token that is right, not expired and not removed", async () => {
    const refused = async (value: string | undefined, message: RegExp) => {
      const { stderr } = await remote(["ls"], { env: { SKEP_TOKEN: value }, status: null });
      assert.match(stderr, message);
    };
    assert.equal((await remote(["ls"])).stderr, "no machines yet; make one: skep new NAME --start\n");
    await refused(undefined, /there is no token for https:.*\n.*skep login/);
    await refused("guess", /not one of skep's/);
    const [version, id, secret, fingerprint] = token.split(".") as [string, string, string, string];
    const wrong = `${secret.startsWith("A") ? "B" : "A"}${secret.slice(1)}`;
    await refused(`${version}.${id}.${wrong}.${fingerprint}`, /token/);
    const short = (await server.skep(["token", "create", "short", "--expires", "1s"])).stdout.trim();
    await eventually(
      async () => /expired/.test((await remote(["ls"], { env: { SKEP_TOKEN: short }, status: null })).stderr),
      () => "the token never expired",
    );
    const lost = JSON.parse((await server.skep(["token", "create", "lost", "--json"])).stdout);
    await remote(["ls"], { env: { SKEP_TOKEN: lost.secret } });
    await server.skep(["token", "rm", lost.token.id]);
    await refused(lost.secret, /token/);
    assert.match((await server.skep(["token", "ls"])).stdout, /laptop.*ago/);
  });

  it("is not given to a server whose certificate the token does not name, nor over plain HTTP", async () => {
    const [version, id, secret] = token.split(".");
    const other = `${version}.${id}.${secret}.${Buffer.alloc(32, 1).toString("base64url")}`;
    const { stderr } = await remote(["ls"], { env: { SKEP_TOKEN: other }, status: 1 });
    assert.match(stderr, /certificate that the token does not name; the token was not sent/);
    const plain = await remote(["ls"], { env: { SKEP_HOST: host.replace("https", "http") }, status: 2 });
    assert.match(plain.stderr, /only https is spoken/);
    const curl = await client.command("curl", ["-sS", host.replace("https", "http")]);
    assert.notEqual(curl.status, 0);
  });

  it("is remembered by login, readable by its owner only", async () => {
    const away = { env: { SKEP_TOKEN: undefined, SKEP_HOST: undefined } };
    const bad = await client.skep(["login", host, "--token", `${token}x`], { ...away, status: null });
    assert.notEqual(bad.status, 0);
    await client.skep(["login", host], { ...away, input: `${token}\n` });
    await client.skep(["--host", host, "ls"], away);
    const path = join(client.environment.HOME as string, ".config/skep/hosts.json");
    assert.equal((await stat(path)).mode & 0o777, 0o600);
  });

  it("says where nothing listens, and what is this host's own business", async () => {
    const { stderr } = await remote(["ls"], { env: { SKEP_HOST: "https://127.0.0.1:1" }, status: 1 });
    assert.match(stderr, /cannot reach skepd at 127\.0\.0\.1:1: nothing listens there/);
    for (const verb of ["start", "stop", "restart", "logs"]) {
      const own = await remote(["daemon", verb], { status: 2 });
      assert.match(own.stderr, new RegExp(`daemon ${verb}. works on this host's skepd`));
    }
  });
});

describe("a machine of another host", () => {
  before(() => remote(["new", "far", "--image", "tiny", "--memory", "128M", "--cpus", "1", "--wait"]));

  it("is listed there and here, and no skepd was started here", async () => {
    assert.match((await remote(["ls"])).stdout, /far +running +tiny/);
    assert.equal((await server.machine("far")).state, "running");
    assert.match((await client.skep(["daemon", "status"], { status: 1 })).stdout, /does not run/);
  });

  it("runs commands with their input and status", async () => {
    const { stdout } = await remote(["exec", "far", "--", "sh", "-c", "cat; hostname; exit 5"], {
      input: "through TLS\n",
      status: 5,
    });
    assert.equal(stdout, "through TLS\nfar\n");
  });

  it("takes and gives files", async () => {
    const directory = join(client.home, "files");
    await mkdir(directory);
    const content = Buffer.alloc(300_000, "skep ");
    await writeFile(join(directory, "in"), content);
    await remote(["cp", join(directory, "in"), "far:/tmp/in"]);
    await remote(["cp", "far:/tmp/in", join(directory, "out")]);
    assert.deepEqual(await readFile(join(directory, "out")), content);
  });

  it("has its console here, on a terminal", async () => {
    const terminal = spawn("script", ["-qefc", "./skep console far", "/dev/null"], {
      env: { ...client.environment, SKEP_HOST: host, SKEP_TOKEN: token, TERM: "xterm" },
    });
    let seen = "";
    terminal.stdout.setEncoding("utf8").on("data", (text: string) => {
      seen += text;
    });
    const sees = (pattern: RegExp) =>
      eventually(
        () => pattern.test(seen),
        () => `${pattern} is not in: ${seen}`,
      );
    try {
      await sees(/Ctrl-\] detaches/);
      await sees(/BusyBox/); // what was printed before
      terminal.stdin.write("echo far-$((1 + 1))\n");
      await sees(/\nfar-2\r/);
      const exit = once(terminal, "exit");
      terminal.stdin.write("\x1d");
      await sees(/detached from far/);
      assert.deepEqual((await exit)[0], 0);
    } finally {
      terminal.kill("SIGKILL");
    }
  });

  it("tells its log as it grows", async () => {
    const child = client.spawn(["logs", "-f", "far"], remoteOptions({}));
    let text = "";
    child.stdout.on("data", (piece) => {
      text += piece;
    });
    await eventually(
      () => text.includes("BusyBox"),
      () => text,
    );
    await remote(["exec", "far", "--", "sh", "-c", "echo grows > /dev/ttyS0"]);
    await eventually(
      () => text.includes("grows"),
      () => text,
    );
    child.kill("SIGINT");
    assert.equal((await once(child, "exit"))[0], 0);
  });

  it("says why there is no tunnel where the guest has no ssh server", async () => {
    const { stderr } = await remote(["proxy", "far", "80"], { status: 1 });
    assert.match(stderr, /"far" cannot be reached by ssh: it has no ssh server/);
  });

  it("is reached at the same address after skepd was restarted, and after it was killed", async () => {
    await server.skep(["daemon", "restart"]);
    assert.equal(`https://${await listening()}`, host);
    assert.match((await remote(["ls"])).stdout, /far +running/);
    await server.killDaemon();
    assert.equal((await remote(["ls"], { status: 1 })).stdout, "");
    await server.machines();
    assert.match((await remote(["ls"])).stdout, /far +running/);
  });
});

describe("skepd", () => {
  it("is told of, stopped, and shows its log; machines run on", async () => {
    assert.match(
      (await server.skep(["daemon", "status"])).stdout,
      /skepd runs\n.*version[\s\S]*listens +127/,
    );
    assert.match((await server.skep(["daemon", "stop"])).stdout, /stopped \(pid \d+\); 1 machine runs on/);
    assert.match((await server.skep(["daemon", "status"], { status: 1 })).stdout, /does not run/);
    assert.match((await server.skep(["daemon", "stop"])).stdout, /does not run/);
    assert.equal((await server.qemuPids()).length, 1);
    assert.match((await server.skep(["daemon", "logs", "-n", "20"])).stdout, /"msg":/);
    assert.match((await server.skep(["daemon", "unit"])).stdout, /KillMode=process/);
    await server.skep(["daemon", "start", "--listen", "none"]);
    assert.equal(await listening(), null);
    assert.equal((await remote(["ls"], { status: 1 })).stdout, "");
    await server.skep(["rm", "--force", "far"]);
  });
});

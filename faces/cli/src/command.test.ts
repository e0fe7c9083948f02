import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { mkdir, mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import { createServer, type Server } from "node:http";
import { dirname, join } from "node:path";
import { text } from "node:stream/consumers";
import { after, before, test } from "node:test";
import { controlSocket } from "@skep/base";
import { verbs } from "./verbs.ts";

/** The command as a user runs it: its own process, its own home. */
const main = join(import.meta.dirname, "main.ts");
let directory = "";
let environment: NodeJS.ProcessEnv = {};
before(async () => {
  directory = await mkdtemp("/tmp/skep-cli-");
  environment = {
    ...process.env,
    SKEP_HOME: join(directory, "h"),
    SKEP_RUNTIME_DIR: join(directory, "r"),
    HOME: directory,
    XDG_CONFIG_HOME: join(directory, "config"),
  };
  for (const name of ["SKEP_HOST", "SKEP_TOKEN", "NODE_TEST_CONTEXT"]) delete environment[name];
});
after(() => rm(directory, { recursive: true }));

async function skep(args: string[], more: NodeJS.ProcessEnv = {}) {
  const child: ChildProcess = spawn(process.execPath, ["--conditions=skep-source", main, ...args], {
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...environment, ...more },
  });
  const status = new Promise<number | null>((resolve) => child.once("close", resolve));
  const [stdout, stderr] = await Promise.all([text(child.stdout!), text(child.stderr!)]);
  return { status: await status, stdout, stderr };
}

/** Answers on the control socket in skepd's place, where a real one could not be made to. */
async function standIn(answer: (path: string) => unknown): Promise<Server> {
  const socket = controlSocket(environment.SKEP_HOME!, environment);
  await mkdir(dirname(socket), { recursive: true });
  const server = createServer((request, response) => {
    response.setHeader("content-type", "application/json");
    response.end(JSON.stringify(answer(request.url ?? "")));
  });
  await new Promise<void>((resolve) => server.listen(socket, resolve));
  return server;
}

test("help names every verb, and needs no skepd", async () => {
  const { status, stdout } = await skep([]);
  assert.equal(status, 0);
  for (const { name } of verbs) assert.match(stdout, new RegExp(`^ {2}${name} `, "m"));
  assert.equal((await skep(["--help"])).stdout, stdout);
  assert.match((await skep(["help", "new"])).stdout, /--user-data/);
});

test("usage errors have status 2 and say what was meant", async () => {
  const unknown = await skep(["strat", "web"]);
  assert.equal(unknown.status, 2);
  assert.match(
    unknown.stderr,
    /^skep: "strat" is not a verb of skep; did you mean "start"\?\n {2}see: skep --help\n$/,
  );
  assert.match((await skep(["new", "a", "--memroy", "2G"])).stderr, /did you mean --memory/);
  const json = await skep(["new", "../x", "--json"]);
  assert.equal(json.status, 2);
  assert.equal((JSON.parse(json.stderr) as { error: { code: string } }).error.code, "NAME_INVALID");
  assert.match((await skep(["new", "a", "--mount", "/srv"])).stderr, /shared folders are not supported yet/);
});

test("a skepd that dies is reported with its last words, once and without delay", async () => {
  const program = join(directory, "skepd.js");
  await writeFile(program, "console.error('skepd: the disk is on fire'); process.exit(1)");
  const { status, stderr } = await skep(["ls"], { SKEP_SKEPD: program });
  assert.equal(status, 1);
  assert.match(stderr, /skepd did not start \(status 1\):\nskepd: the disk is on fire\n/);
  assert.match((await skep(["ls"], { SKEP_SKEPD: "/nonexistent" })).stderr, /not beside this skep/);
});

test("daemon status and completion start nothing", async () => {
  const { status, stdout } = await skep(["daemon", "status", "--json"]);
  assert.equal(status, 1);
  assert.deepEqual(JSON.parse(stdout), { running: false, home: environment.SKEP_HOME });
  assert.equal((await skep(["__complete", "machines"])).stdout, "");
});

test("a verb without a name takes the only machine, and names them where there are more", async () => {
  const machine = (name: string) => ({ name, state: "running", reason: null });
  const server = await standIn(() => [machine("a"), machine("b")]);
  try {
    const { status, stderr } = await skep(["console"]);
    assert.equal(status, 2);
    assert.match(stderr, /there are 2 machines\n {2}name one: skep console NAME \(a, b\)/);
  } finally {
    server.closeAllConnections();
    server.close();
  }
});

test("hosts.json is the user's alone; a host without a token is told to log in", async () => {
  const { status, stderr } = await skep(["--host", "https://localhost:1", "ls"]);
  assert.equal(status, 2);
  assert.match(stderr, /skep login https:\/\/localhost:1 --token TOKEN/);
  const { rememberHost } = await import("./hosts.ts");
  const path = await rememberHost("localhost", "t", environment);
  assert.equal((await stat(path)).mode & 0o777, 0o600);
  assert.deepEqual(JSON.parse(await readFile(path, "utf8")), {
    version: 1,
    hosts: { "https://localhost:8440": { token: "t" } },
  });
});

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdir, mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { join, resolve } from "node:path";
import { after, before, test } from "node:test";
import { promisify } from "node:util";

const run = promisify(execFile);
const house = resolve(import.meta.dirname, "..");

/** The packed command as a user gets it: installed by npm into an empty directory, nothing of the checkout near. */
let base: string;
let skep: (...args: string[]) => Promise<string>;

before(async () => {
  base = await mkdtemp("/tmp/skep-pack-");
  const packed = join(base, "packed");
  const installed = join(base, "installed");
  await mkdir(packed);
  await mkdir(installed);
  await run(process.execPath, ["--conditions=skep-source", join(house, "scripts/build.ts"), "--cli"], {
    cwd: house,
  });
  await run("npm", ["pack", "--pack-destination", packed], { cwd: join(house, "build/skep") });
  const [archive] = await readdir(packed);
  await run(
    "npm",
    ["install", "--ignore-scripts", "--prefer-offline", "--no-audit", join(packed, archive!)],
    {
      cwd: installed,
    },
  );
  const environment = {
    PATH: process.env.PATH,
    HOME: base,
    SKEP_HOME: join(base, "home"),
    SKEP_RUNTIME_DIR: join(base, "run"),
  };
  skep = async (...args) =>
    (await run(join(installed, "node_modules/.bin/skep"), args, { cwd: "/", env: environment })).stdout;
});

after(async () => {
  await skep("daemon", "stop").catch(() => undefined); // none may be running
  await rm(base, { recursive: true, force: true });
});

test("the installed command runs on the Node.js that came with it", async () => {
  const { version } = JSON.parse(await readFile(join(house, "package.json"), "utf8")) as { version: string };
  const { optionalDependencies } = JSON.parse(await readFile(join(house, "package.json"), "utf8")) as {
    optionalDependencies: Record<string, string>;
  };
  const shown = JSON.parse(await skep("version", "--json"));
  assert.equal(shown.client, version);
  assert.ok(Object.values(optionalDependencies).includes(shown.node.slice(1)), shown.node);
});

test("its help shows every group of verbs", async () => {
  const help = await skep("--help");
  for (const group of ["Machines", "Images", "Access", "Host"])
    assert.match(help, new RegExp(`^${group}`, "m"));
});

test("it starts its skepd and lists no machines", async () => {
  assert.deepEqual(JSON.parse(await skep("ls", "--json")), []);
  const shown = JSON.parse(await skep("version", "--json"));
  assert.equal(shown.server.home, join(base, "home"));
});

test("the skepd finds the recipes and the catalog that ship with it", async () => {
  await assert.rejects(skep("image", "build", "no-such-recipe"), /debian-12, tiny/);
  assert.match(await skep("image", "catalog"), /debian-12/);
});

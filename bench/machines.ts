/**
 * `npm run bench:machines`: the promises about speed in docs/SPECIFICATION.md, on this machine. Both sides
 * of every ratio run in turns in one run; values are medians. Uses the bundle in build/skep (made anew), and
 * the test images. `--only cli,new,idle,start` picks parts, `--rounds N` overrides the number of rounds of each.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { chmod, cp, mkdir, mkdtemp, readFile, rm } from "node:fs/promises";
import { homedir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import type { Machine } from "@skep/api/schemas";
import { atMost, interleave, median, printResults, type Result, timed } from "./measure.ts";
import { type Login, sshAnswers } from "./ssh.ts";

const house = resolve(import.meta.dirname, "..");
const node = process.execPath;
const { values: options } = parseArgs({
  options: { only: { type: "string", default: "cli,new,idle,start" }, rounds: { type: "string" } },
});
const parts = options.only.split(",");
const rounds = (usual: number) => (options.rounds === undefined ? usual : Number(options.rounds));

const base = await mkdtemp("/tmp/skep-bench-");
const home = join(base, "home");
const env = { ...process.env, SKEP_HOME: home, SKEP_RUNTIME_DIR: join(base, "run") };
const skepCommand = [node, "--disable-warning=ExperimentalWarning", join(house, "build/skep/dist/skep.js")];
const skep = (...args: string[]) => timed([...skepCommand, ...args], env);
const machine = async (name: string) =>
  (JSON.parse((await skep("ls", "--json")).stdout) as Machine[]).find((one) => one.name === name)!;

/** The images of the tests, as hard links where the file system allows. */
async function takeImages(): Promise<void> {
  await chmod(base, 0o711); // QEMU runs as its own user where we are root
  await mkdir(home, { mode: 0o711 });
  const images = join(process.env.SKEP_TEST_HOME ?? join(homedir(), ".cache/skep-test"), "images");
  try {
    await timed(["cp", "-al", images, join(home, "images")], process.env);
  } catch {
    await cp(images, join(home, "images"), { recursive: true }).catch(() => undefined); // then they are built
  }
  for (const name of ["tiny", "debian-12"]) await skep("image", "build", name);
}

/** `ls` with 100 machines, and `--help`, against the runtime's own start. */
async function benchCli(): Promise<Result[]> {
  for (let index = 0; index < 100; index += 1) {
    await skep("new", `many-${index}`, "--image", "tiny", "--memory", "128M");
  }
  const { bare, ls, help } = await interleave(rounds(25), {
    bare: async () => (await timed([node, "-e", "0"], env)).ms,
    ls: async () => (await skep("ls", "--json")).ms,
    help: async () => (await skep("--help")).ms,
  });
  await skep("rm", "--all", "--force");
  console.log(
    `node -e 0: ${bare.toFixed(1)} ms, skep ls --json: ${ls.toFixed(1)} ms, skep --help: ${help.toFixed(1)} ms`,
  );
  return [
    atMost("skep ls --json, 100 machines", ls, 100, "ms"),
    atMost("the same against node -e 0", ls / bare, 4, "times"),
    atMost("skep --help", help, 100, "ms"),
    atMost("the same against node -e 0", help / bare, 4, "times"),
  ];
}

/** From the command to a running QEMU, for a machine whose image is cached. */
async function benchNew(): Promise<Result[]> {
  const times: number[] = [];
  for (let round = 0; round <= rounds(5); round += 1) {
    const { ms } = await skep("new", "second", "--image", "debian-12", "--start");
    const { pid } = await machine("second");
    process.kill(pid!, 0); // throws where QEMU does not run
    if (round > 0) times.push(ms); // the first one probes the accelerator
    await skep("rm", "--force", "second");
  }
  return [atMost("skep new --start of a second machine", median(times), 500, "ms")];
}

/** What skepd costs while 20 machines run and nobody asks for anything. */
async function benchIdle(): Promise<Result[]> {
  const names = Array.from({ length: 20 }, (_, index) => `tiny-${index}`);
  for (const name of names) await skep("new", name, "--image", "tiny", "--memory", "128M", "--start");
  for (;;) {
    const machines = JSON.parse((await skep("ls", "--json")).stdout) as Machine[];
    if (machines.every((one) => one.ready)) break;
    const dead = machines.find((one) => one.state === "stopped");
    if (dead !== undefined) throw new Error(`${dead.name} has stopped: ${dead.reason}`);
    await sleep(2000);
  }
  await sleep(10_000);
  const version = JSON.parse((await skep("version", "--json")).stdout) as { server: { pid: number } };
  const { pid } = version.server;
  const seconds = 30;
  const before = await processorSeconds(pid);
  await sleep(seconds * 1000);
  const used = ((await processorSeconds(pid)) - before) / seconds;
  const status = await readFile(`/proc/${pid}/status`, "utf8");
  const residentMb = (Number(/^VmRSS:\s+(\d+)/m.exec(status)![1]) * 1024) / 1e6;
  await skep("rm", "--all", "--force");
  return [
    atMost("skepd with 20 machines, resident", residentMb, 120, "MB"),
    atMost("skepd with 20 machines, of one CPU", used * 100, 0.5, "%"),
  ];
}

async function processorSeconds(pid: number): Promise<number> {
  const stat = await readFile(`/proc/${pid}/stat`, "utf8");
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[11]) + Number(fields[12])) / 100; // utime, stime in USER_HZ (proc(5))
}

/** From `start` to an answered ssh, against the same QEMU command typed by hand. */
async function benchStart(): Promise<Result[]> {
  await skep("new", "web", "--image", "debian-12", "--start", "--wait"); // the first boot makes keys
  await skep("stop", "web");
  const { byHand, bySkep } = await interleave(rounds(3), {
    bySkep: async () => {
      const started = performance.now();
      await skep("start", "web");
      const ms = (await sshAnswers(loginOf(await machine("web")))) - started;
      await skep("stop", "web");
      return ms;
    },
    byHand: async () => {
      const command = JSON.parse((await skep("inspect", "web", "--qemu", "--json")).stdout) as string[];
      const about = await machine("web");
      await makePlaces(command);
      const started = performance.now();
      const qemu = spawn(command[0]!, command.slice(1), { stdio: "ignore" });
      const ended = end(qemu);
      const ms = (await Promise.race([sshAnswers(loginOf(about)), ended])) - started;
      await timed(["ssh", ...loginOf(about).words, "sudo poweroff"], env).catch(() => undefined); // it may cut the connection first
      await ended.catch(() => undefined);
      return ms;
    },
  });
  console.log(`to ssh: by hand ${(byHand / 1000).toFixed(2)} s, by skep ${(bySkep / 1000).toFixed(2)} s`);
  await skep("rm", "--force", "web");
  return [atMost("skep start to ssh, against QEMU by hand", bySkep / byHand, 1.05, "times")];
}

async function end(qemu: ChildProcess): Promise<never> {
  const status = await new Promise((resolve, reject) => {
    qemu.once("error", reject);
    qemu.once("exit", (code, signal) => resolve(signal ?? code));
  });
  throw new Error(`QEMU started by hand has ended (${status})`);
}

/** Directories of sockets and memory, which skep makes before it starts QEMU. */
async function makePlaces(command: readonly string[]): Promise<void> {
  for (const argument of command) {
    for (const [, path] of argument.matchAll(/(?:^|[=,:])(\/(?:dev\/shm|tmp)\/[^,]+)/g)) {
      await mkdir(dirname(path!), { recursive: true });
    }
  }
}

/** Gets in without looking at the host's key: machines by hand have another one each time. */
function loginOf({ ssh: at }: Machine): Login {
  const { host, port, user } = at!;
  const quiet = [
    "StrictHostKeyChecking=no",
    "UserKnownHostsFile=/dev/null",
    "LogLevel=ERROR",
    "BatchMode=yes",
  ];
  const flags = quiet.flatMap((option) => ["-o", option]);
  const key = join(home, "ssh/id_ed25519");
  const words = ["-F", "none", ...flags, "-i", key, "-p", String(port), `${user}@${host}`];
  return { host, port, words };
}

const results: Result[] = [];
try {
  await timed([node, "--conditions=skep-source", join(house, "scripts/build.ts"), "--cli"], process.env);
  await takeImages();
  if (parts.includes("cli")) results.push(...(await benchCli()));
  if (parts.includes("new")) results.push(...(await benchNew()));
  if (parts.includes("idle")) results.push(...(await benchIdle()));
  if (parts.includes("start")) results.push(...(await benchStart()));
} finally {
  await skep("stop", "--all", "--force").catch(() => undefined);
  await skep("daemon", "stop").catch(() => undefined);
  await rm(base, { recursive: true, force: true });
}
printResults(results);
process.exitCode = results.every((result) => result.kept) ? 0 : 1;

/** The script's machine: as skep's own stands at one instant, with the command line that skep has given it. */
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Machine } from "@skep/api/schemas";
import { processArguments } from "@skep/base";
import { timed } from "./measure.ts";
import type { ScriptMachine } from "./state-script-qemu.ts";
import type { World } from "./state-world.ts";

interface RootOptions {
  "node-name": string;
  file: unknown;
  backing?: object;
}

/**
 * Copies a running machine of skep's by forking it, takes what the copy was made of, and starts the script's own from
 * that. The copy is stopped, and stays: the script's disk stands on its layers. Gives the machine's directory.
 */
async function makeScriptMachine(world: World, name: string): Promise<string> {
  const directory = join(world.base, "script", name);
  const memory = join(world.memory, name);
  for (const path of [directory, memory]) await mkdir(path, { recursive: true });
  const copy = `${name}-of-script`;
  const keys = await world.skep("exec", name, "--", "sh", "-c", "cd /etc/ssh && ls ssh_host_*_key");
  await world.skep("fork", name, copy);
  const [source, made] = [await world.machine(name), await world.machine(copy)];
  const argv = processArguments(made.pid as number) as string[];
  const frozen = /mem-path=([^,]+)\/ram/.exec(argv.join(" "))?.[1] as string;
  await timed(["cp", "--sparse=always", join(frozen, "ram"), join(memory, "ram")], process.env);
  await timed(["cp", join(frozen, "device"), join(directory, "devices")], process.env);
  const seed = join(directory, "seed.iso");
  await timed(["cp", join(world.home, "machines", copy, "seed.iso"), seed], process.env);
  const root = argv.find((word) => word.startsWith("{") && word.includes('"node-name":"root"')) as string;
  const { backing, file: _, ...rootOptions } = JSON.parse(root) as RootOptions;
  const emptyDisk = join(directory, "empty.qcow2");
  const size = String(await virtualSize(join(world.home, "machines", copy, "disk.qcow2")));
  await timed(["qemu-img", "create", "-q", "-f", "qcow2", emptyDisk, size], process.env);
  const path = join(directory, "disk.qcow2");
  await timed(["cp", emptyDisk, path], process.env);
  await world.skep("stop", "--force", copy);
  const machine: ScriptMachine = {
    directory,
    argv: withPlaces(argv, [
      [root, "{root}"],
      [join(frozen, "ram"), "{ram}"],
      [join(world.home, "machines", copy, "seed.iso"), seed],
      [world.runtimeOf(made), "{directory}"],
      [join(world.home, "machines", copy), "{directory}"],
    ]),
    rootOptions,
    root: { node: "root", path, backing },
    emptyDisk,
    ram: join(memory, "ram"),
    borrowed: false,
    memoryBytes: source.memoryMiB * 2 ** 20,
    mac: source.mac,
    hostKeys: [...keys.stdout.matchAll(/ssh_host_(\w+)_key/g)].map(([, type]) => type as string),
  };
  await writeFile(join(directory, "machine.json"), JSON.stringify(machine));
  await world.script("resume", directory, "kept", "thaw");
  return directory;
}

/** Its command line, with places for what differs between the script's machines; it chooses no ports itself. */
function withPlaces(argv: readonly string[], paths: readonly (readonly [string, string])[]): string[] {
  const words: string[] = [];
  for (let at = 0; at < argv.length; at += 1) {
    const word = argv[at] as string;
    if (word === "-S") continue;
    if (word === "-incoming") at += 1;
    else if (argv[at - 1] === "-uuid") words.push("{uuid}");
    else {
      const general = word
        .replace(/share=off/, "share={share}")
        .replace(/tb-size=\d+/, "tb-size={tb}")
        .replace(/vmgenid,guid=[^,]+/, "vmgenid,guid={generation}")
        .replace(/mac=[0-9a-f:]{17}/, "mac={mac}")
        .replace(/hostfwd=(\w+):([\d.]+):\d+-/g, "hostfwd=$1:$2:0-");
      words.push(paths.reduce((text, [from, to]) => text.replaceAll(from, to), general));
    }
  }
  return words;
}

async function virtualSize(path: string): Promise<number> {
  const { stdout } = await timed(["qemu-img", "info", "-U", "--output=json", path], process.env);
  return (JSON.parse(stdout) as { "virtual-size": number })["virtual-size"];
}

/** A Debian guest of 1 GiB, and the script's machine that is like it; one of each for all parts. */
export interface Pair {
  web: Machine;
  /** The directory of the script's. */
  script: string;
}

export function pairOf(world: World): Promise<Pair> {
  const make = async () => {
    const web = await world.guest("web", 1024);
    return { web, script: await makeScriptMachine(world, web.name) };
  };
  world.pair ??= make();
  return world.pair;
}

/** Before what should have this host for itself. */
export async function removePair(world: World): Promise<void> {
  const pair = await world.pair;
  world.pair = undefined;
  if (pair === undefined) return;
  process.kill(await pidOf(pair.script), "SIGKILL");
  await world.skep("rm", "--force", pair.web.name);
}

/** The script's QEMU of a directory. */
export async function pidOf(directory: string): Promise<number> {
  return Number(await readFile(join(directory, "qemu.pid"), "utf8"));
}

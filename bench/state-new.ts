/** A new machine from a template, beside one that boots, under skep and under libvirt. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import type { Machine } from "@skep/api/schemas";
import { type Login, sshAnswers } from "./ssh.ts";
import { Libvirt } from "./state-libvirt.ts";
import { inTurns, type Part } from "./state-report.ts";
import { removePair } from "./state-source.ts";
import type { World } from "./state-world.ts";

type Add = (name: string, value: number) => void;

const shape = ["--image", "debian-12", "--memory", "1024M", "--no-user-keys"];

export async function benchNew(world: World): Promise<Part> {
  await removePair(world);
  await world.skep("template", "build", "debian-12", "--memory", "1024M");
  const libvirt = await Libvirt.start(world);
  const booted = await inTurns(
    world.rounds.cold,
    [
      (add) => boots(world, add),
      ...(typeof libvirt === "string" ? [] : [(add: Add) => libvirtBoots(world, libvirt, add)]),
    ],
    { first: "counts" },
  );
  const warm = await inTurns(world.rounds.all, [(add) => begins(world, add)]);
  if (typeof libvirt !== "string") await libvirt[Symbol.asyncDispose]();
  const beside = (name: string, samples: string) => ({ name, value: booted.median(samples) });
  const ready = "skep new --start, with a template, from the command to ready";
  const ssh = "… until ssh lets somebody in";
  const rows = [
    warm.row(ready, "ready", undefined, {
      limit: 1000,
      other: beside("cold", "ready"),
      ratioLimit: 0.1,
      note: `cold: of ${booted.of("ready").length}`,
    }),
    warm.row(ssh, "ssh", undefined, { other: beside("cold", "ssh"), ratioLimit: 0.1 }),
  ];
  if (typeof libvirt === "string") return { title, rows, missing: [`virt-install: ${libvirt}`] };
  rows.push(warm.row(ssh, "ssh", undefined, { other: beside("virt-install", "libvirt ssh") }));
  return { title, rows };
}

const title = "a new Debian machine of 1 GiB";

/** Its helper has answered when the command ends. */
async function begins(world: World, add: Add): Promise<void> {
  const started = performance.now();
  const { ms } = await world.skep("new", "warm", ...shape, "--start");
  add("ready", ms);
  const machine = await world.machine("warm");
  if (!machine.ready) throw new Error("a machine was not begun from a template, or is not ready");
  add("ssh", (await sshAnswers(loginOf(world, machine), { isUp: true })) - started);
  await world.skep("rm", "--force", "warm");
}

async function boots(world: World, add: Add): Promise<void> {
  const started = performance.now();
  const { ms } = await world.skep("new", "cold", ...shape, "--cold", "--wait");
  add("ready", ms);
  add("ssh", (await sshAnswers(loginOf(world, await world.machine("cold")))) - started);
  await world.skep("rm", "--force", "cold");
}

async function libvirtBoots(world: World, libvirt: Libvirt, add: Add): Promise<void> {
  await world.skep("new", "import", ...shape);
  const argv = JSON.parse((await world.skep("inspect", "import", "--qemu", "--json")).stdout) as string[];
  const machine = await world.machine("import");
  const file = await readFile(join(world.home, "machines/import/machine.json"), "utf8");
  const { disk } = JSON.parse(file) as { disk: { sizeBytes: number } };
  const login = (port: number) => loginOf(world, machine, port);
  add(
    "libvirt ssh",
    await libvirt.bootMs({ argv, machine: { ...machine, diskBytes: disk.sizeBytes }, login }),
  );
  await world.skep("rm", "--force", "import");
}

/** As a person would, with the home's ssh configuration. */
export function loginOf(world: World, { name, ssh }: Machine, port?: number): Login {
  const config = ["-F", join(world.home, "ssh/config"), "-o", "BatchMode=yes"];
  // What libvirt has booted has the keys of that machine, but for ones made at its first boot.
  const other = port === undefined ? [] : ["-p", String(port), "-o", "UserKnownHostsFile=/dev/null"];
  return {
    host: ssh?.host ?? "127.0.0.1",
    port: port ?? ssh?.port ?? 0,
    words: [...config, ...other, `${name}.skep`],
  };
}

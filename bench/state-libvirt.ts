/** The same image under libvirt, started by virt-install: a libvirtd of its own, with directories of its own. */
import { type ChildProcess, spawn } from "node:child_process";
import { chown, copyFile, mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { Machine } from "@skep/api/schemas";
import { findCommand } from "@skep/base";
import { freePort } from "@skep/base/testing";
import { timed } from "./measure.ts";
import { type Login, sshAnswers } from "./ssh.ts";
import type { World } from "./state-world.ts";

/** "nobody": libvirt serves root for the whole host, and anybody else in his own directories. */
const user = 65534;
const domain = "booted";
const session = "qemu:///session";
const startLimitMs = 30_000;
const isRoot = process.getuid?.() === 0;

/** A machine of skep's that was not started, for libvirt to boot instead. */
export interface Imported {
  /** The command line that skep would start it with. */
  argv: readonly string[];
  machine: Pick<Machine, "memoryMiB" | "cpus"> & { diskBytes: number };
  login(port: number): Login;
}

export class Libvirt implements AsyncDisposable {
  readonly #directory: string;
  readonly #env: NodeJS.ProcessEnv;
  readonly #server: ChildProcess;
  readonly #prefix: readonly string[];

  private constructor(directory: string, env: NodeJS.ProcessEnv, prefix: readonly string[]) {
    this.#directory = directory;
    this.#env = env;
    this.#prefix = prefix;
    const [program = "", ...args] = [...prefix, "libvirtd"];
    this.#server = spawn(program, args, { env, stdio: "ignore", cwd: directory });
    this.#server.on("error", () => {}); // whoever connects says so
  }

  /** Why it cannot be had here, or libvirt. */
  static async start(world: World): Promise<Libvirt | string> {
    for (const program of ["libvirtd", "virsh", "virt-install"]) {
      if ((await findCommand(program)) === undefined) return `${program} is not installed`;
    }
    const directory = join(world.base, "libvirt");
    const own = isRoot ? ["setpriv", `--reuid=${user}`, `--regid=${user}`, "--clear-groups", "--"] : [];
    await mkdir(join(directory, "config/libvirt"), { recursive: true });
    // Else a second server, which outlives the first, would write what guests print.
    await writeFile(join(directory, "config/libvirt/qemu.conf"), 'stdio_handler = "file"\n');
    const names = ["RUNTIME_DIR", "CONFIG_HOME", "CACHE_HOME", "DATA_HOME", "STATE_HOME"];
    const places = names.map((name) => [`XDG_${name}`, join(directory, name.split("_")[0]!.toLowerCase())]);
    const env = { ...process.env, HOME: directory, ...Object.fromEntries(places) };
    for (const [, place] of places) await mkdir(place as string, { recursive: true, mode: 0o700 });
    if (isRoot) await timed(["chown", "-R", `${user}:${user}`, directory], process.env);
    const libvirt = new Libvirt(directory, env, own);
    world.onEnd(() => libvirt[Symbol.asyncDispose]());
    for (const until = performance.now() + startLimitMs; ; await sleep(100)) {
      try {
        await libvirt.#run("virsh", "--connect", session, "uri");
        return libvirt;
      } catch (error) {
        if (performance.now() > until) return `libvirtd does not answer: ${(error as Error).message}`;
      }
    }
  }

  #run(program: string, ...args: string[]) {
    return timed([...this.#prefix, program, ...args], this.#env);
  }

  /** From virt-install's start until ssh lets somebody in. The guest is removed. */
  async bootMs({ argv, machine, login }: Imported): Promise<number> {
    const after = (option: string) => argv[argv.indexOf(option) + 1] as string;
    const node = (name: string) => argv.find((word) => word.includes(`"node-name":"${name}"`)) as string;
    const image = /"filename":"([^"]+\.raw)"/.exec(node("root"))?.[1] as string;
    const [disk, seed] = [join(this.#directory, "disk.qcow2"), join(this.#directory, "seed.iso")];
    const backing = ["-b", image, "-F", "raw"];
    await timed(
      ["qemu-img", "create", "-q", "-f", "qcow2", ...backing, disk, String(machine.diskBytes)],
      this.#env,
    );
    await copyFile(/"filename":"([^"]+)"/.exec(node("seed"))?.[1] as string, seed);
    if (isRoot) for (const path of [disk, seed]) await chown(path, user, user);
    const port = await freePort();
    const netdev = `user,id=net,hostfwd=tcp:127.0.0.1:${port}-:22`;
    const kernel = `kernel=${after("-kernel")},initrd=${after("-initrd")},kernel_args="${after("-append")}"`;
    const started = performance.now();
    await this.#run(
      "virt-install",
      ...["--connect", session, "--name", domain, "--virt-type", "qemu", "--machine", "q35"],
      ...["--memory", String(machine.memoryMiB), "--vcpus", String(machine.cpus), "--cpu", "mode=maximum"],
      ...["--osinfo", "detect=off,require=off", "--import", "--graphics", "none", "--noautoconsole"],
      ...["--boot", kernel, "--disk", `path=${disk},format=qcow2,bus=virtio`],
      ...["--disk", `path=${seed},format=raw,bus=virtio,readonly=on`],
      ...["--channel", "unix,target.type=virtio,target.name=org.qemu.guest_agent.0", "--rng", "/dev/urandom"],
      ...["--network", "none"],
      `--qemu-commandline=-netdev ${netdev} -device virtio-net-pci,netdev=net,addr=0x10,romfile=`,
    );
    try {
      return (await sshAnswers(login(port))) - started;
    } finally {
      for (const verb of ["destroy", "undefine"])
        await this.#run("virsh", "--connect", session, verb, domain);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#server.exitCode !== null || this.#server.signalCode !== null) return;
    const ended = new Promise((resolve) => this.#server.once("exit", resolve));
    this.#server.kill("SIGTERM");
    await ended;
  }
}

import { checkName } from "@skep/base";
import { type Command, Option } from "commander";
import { announce } from "../announce.ts";
import { action } from "../context.ts";
import { parseEnvironment } from "../environment.ts";
import { fail, usage } from "../errors.ts";
import { addLivenessOptions, checkKeys } from "../liveness.ts";
import type { MachineSettings } from "../machine-file.ts";
import { machineRequest, parseCount } from "../request.ts";

interface Flags {
  file?: string;
  image?: string;
  from?: string;
  cdrom?: string;
  arch?: string;
  cpus?: string;
  memory?: string;
  disk?: string;
  dataDisk?: string[];
  rootVolume?: string | true;
  volume?: string[];
  efiVolume?: boolean;
  uefi?: boolean;
  publish?: string[];
  sshKey?: string[];
  userKeys: boolean;
  user?: string;
  userData?: string;
  networkConfig?: string;
  env?: string[];
  kernelArgs?: string;
  autostart?: boolean;
  restart?: string;
  check?: string;
  checkInterval?: string;
  checkTimeout?: string;
  checkFailures?: string;
  checkStart?: string;
  suspendAfter?: string;
  telnet?: boolean;
  start?: boolean;
  cold?: boolean;
  wait?: boolean;
  timeout?: string;
  mount?: string[];
}

const several = (value: string, before: string[] | undefined) => [...(before ?? []), value];

export function define(command: Command): void {
  command
    .summary("make a machine")
    .description("Makes a machine. Without a base it takes the default image of this host.")
    .argument("[name]", "1 to 48 of a-z, 0-9 and inner dashes; may stand in the file")
    .optionsGroup("Base:")
    .option("-i, --image <image>", "a base image: a name of `skep image ls` or of the catalog")
    .option("--from <machine>", "another, stopped machine's disk")
    .option("--cdrom <iso>", "an ISO on skepd's host, booted first, with an empty disk")
    .option("-f, --file <machine.yaml>", "settings from a file (- for standard input); flags override it")
    .optionsGroup("Shape:")
    .option("-c, --cpus <count>", "virtual CPUs")
    .option("-m, --memory <size>", "as in 2G or 512MiB; a bare number counts MiB")
    .option("-d, --disk <size>", "size of the disk, as in 20G; not smaller than the image")
    .option("--data-disk <size>", "an extra, empty disk (repeatable)", several)
    .option("--root-volume [size]", "the disk is a new volume, filled from the image")
    .option("--volume <volume>", "attach a volume: its id or name, with :ro read only (repeatable)", several)
    .option("--efi-volume", "keep the UEFI variables on a new volume")
    .option("--arch <arch>", "x86_64 or aarch64 (amd64, arm64)")
    .option("--uefi", "boot with UEFI firmware")
    .option("--kernel-args <arguments>", "added to the kernel's command line")
    .optionsGroup("Access:")
    .option(
      "-p, --publish <host:guest>",
      "forward a port: [ADDRESS:]HOST:GUEST[/udp]; :80 takes a free one (repeatable)",
      several,
    )
    .option("--ssh-key <key>", "a public key, or a file of them (repeatable)", several)
    .option("--no-user-keys", "leave your own ~/.ssh/*.pub out")
    .option("--user <name>", "the login user, instead of the image's")
    .option("--telnet", "the serial console on a free loopback port, too")
    .optionsGroup("First boot:")
    .option("--user-data <file>", "cloud-init user-data (- for standard input)")
    .option("--network-config <file>", "cloud-init network-config (- for standard input)")
    .option(
      "-e, --env <name=value>",
      "an environment variable in the guest; NAME alone passes yours on (repeatable)",
      several,
    )
    .optionsGroup("Start:")
    .option("-s, --start", "start it, too")
    .option("--cold", "boot it at its first start, whatever templates there are")
    .option("-w, --wait", "start it, and end when its check succeeds, or else ssh or the agent answers")
    .option("--timeout <duration>", "how long --wait waits, as in 90s or 5m")
    .option("--autostart", "start it whenever the host boots");
  addLivenessOptions(command.optionsGroup("Care:"));
  command
    .option("--suspend-after <duration>", "put it to sleep once nobody has used it for so long")
    .addOption(new Option("--mount <share>").argParser(several).hideHelp())
    .addHelpText(
      "after",
      `
Examples:
  skep new web --start
  skep new db -i debian-12 -c 4 -m 8G -d 40G -p 5432:5432 --wait
  skep new copy --from db
  skep new db --root-volume 40G --volume data --start
  skep new api -p 8080:80 --check http:80/health --restart on-failure --wait
  skep new -f machine.yaml --memory 4G`,
    )
    .action(
      action(async (context, name: string | undefined, flags: Flags) => {
        if (flags.mount !== undefined) throw fail("MOUNT_LATER");
        const fromStdin = [flags.file, flags.userData, flags.networkConfig].filter((path) => path === "-");
        if (fromStdin.length > 1)
          throw usage("standard input can be read only once", "give files for the others");
        const settings = await settingsOf(name, flags);
        const request = await machineRequest(settings);
        await context.job("createMachine", { body: request });
        await announce(context, [request.name]);
      }),
    );
}

/** The file's settings under those of the command line. */
async function settingsOf(
  name: string | undefined,
  flags: Flags,
): Promise<MachineSettings & { name: string }> {
  let settings: MachineSettings = {};
  if (flags.file !== undefined) {
    const [{ parseMachineFile }, { readInput }] = await Promise.all([
      import("../machine-file.ts"),
      import("../input.ts"),
    ]);
    const path = flags.file === "-" ? `${process.cwd()}/standard input` : flags.file;
    settings = parseMachineFile(await readInput(flags.file, 8_388_608), path);
  }
  const base = flags.image ?? flags.from ?? flags.cdrom;
  if (base !== undefined) {
    delete settings.image;
    delete settings.from;
    delete settings.cdrom;
  }
  const given: MachineSettings = {
    ...pick(flags, ["image", "from", "cdrom", "arch", "memory", "disk", "user", "autostart", "telnet"]),
    ...pick(flags, ["start", "cold", "wait", "timeout", "restart", "suspendAfter", ...checkKeys]),
    ...(flags.cpus === undefined ? {} : { cpus: parseCount(flags.cpus, "cpus") }),
    ...(flags.dataDisk === undefined ? {} : { dataDisks: flags.dataDisk }),
    ...(flags.rootVolume === undefined ? {} : { rootVolume: flags.rootVolume }),
    ...(flags.volume === undefined ? {} : { volumes: flags.volume }),
    ...(flags.efiVolume === true ? { efiVolume: true } : {}),
    ...(flags.uefi === true ? { firmware: "uefi" as const } : {}),
    ...(flags.publish === undefined ? {} : { ports: flags.publish }),
    ...(flags.sshKey === undefined ? {} : { sshKeys: flags.sshKey }),
    ...(flags.userKeys ? {} : { userKeys: false }),
    ...(flags.userData === undefined ? {} : { userData: { path: flags.userData } }),
    ...(flags.networkConfig === undefined ? {} : { networkConfig: { path: flags.networkConfig } }),
    ...(flags.kernelArgs === undefined ? {} : { kernelArguments: flags.kernelArgs }),
    ...(flags.env === undefined ? {} : { env: { ...settings.env, ...parseEnvironment(flags.env) } }),
  };
  const chosen = name ?? settings.name;
  if (chosen === undefined) throw usage("skep new needs a name", "as in: skep new web --start");
  return { ...settings, ...given, name: checkName(chosen) };
}

function pick<T extends object, K extends keyof T>(from: T, keys: readonly K[]): Partial<Pick<T, K>> {
  return Object.fromEntries(
    keys.filter((key) => from[key] !== undefined).map((key) => [key, from[key]]),
  ) as Partial<Pick<T, K>>;
}

import type { MachineRequest } from "@skep/api";
import { parseDuration, parseSize } from "@skep/base";
import { parseEnvironment } from "./environment.ts";
import { usage } from "./errors.ts";
import { parseSuspendAfter } from "./idle.ts";
import { readInput } from "./input.ts";
import { readPublicKeys, userPublicKeys } from "./keys.ts";
import { parseCheck, parseRestart } from "./liveness.ts";
import type { MachineSettings, TextSource } from "./machine-file.ts";
import { parsePublish } from "./ports.ts";

const mebibyte = 1024 ** 2;
const arches: Record<string, "x86_64" | "aarch64"> = {
  x86_64: "x86_64",
  amd64: "x86_64",
  aarch64: "aarch64",
  arm64: "aarch64",
};

/** `x86_64` or `aarch64`, also under Debian's names for them. */
export function parseArch(value: string): "x86_64" | "aarch64" {
  const arch = Object.hasOwn(arches, value) ? arches[value] : undefined;
  if (arch === undefined)
    throw usage(`architecture "${value}" is not known`, "write x86_64 (amd64) or aarch64 (arm64)");
  return arch;
}

/** Memory in MiB; a bare number counts MiB, as QEMU's -m does. */
export function parseMemory(value: string): number {
  const memoryMiB = Math.floor(parseSize(value, "MiB") / mebibyte);
  if (memoryMiB < 64) throw usage(`memory "${value}" is too small`, "give at least 64M");
  return memoryMiB;
}

/** A disk's size in bytes; a number without a unit is refused, for it would be bytes. */
export function parseDisk(value: string): number {
  if (/^\s*[\d.]+\s*$/.test(value))
    throw usage(`disk size "${value}" has no unit`, `write ${value.trim()}G or ${value.trim()}GiB`);
  const bytes = parseSize(value);
  if (bytes < mebibyte) throw usage(`disk size "${value}" is too small`, "give at least 1M");
  return bytes;
}

function rootVolume(size: string | true): { sizeBytes?: number } {
  return size === true ? {} : { sizeBytes: parseDisk(size) };
}

/** `data`, or `data:ro`. */
export function parseVolume(value: string): { volume: string; readOnly?: true } {
  const [, volume, mode] = /^([^:]+)(?::(.*))?$/.exec(value) ?? [];
  if (volume === undefined || !(mode === undefined || mode === "ro" || mode === "rw"))
    throw usage(`volume "${value}" is not understood`, "write its id or name, and :ro for read only");
  return { volume, ...(mode === "ro" ? { readOnly: true } : {}) };
}

/** A whole number above zero. */
export function parseCount(value: string, what: string): number {
  if (!/^\d{1,6}$/.test(value) || Number(value) < 1)
    throw usage(`${what} "${value}" is not a whole number above 0`, `write --${what} 2`);
  return Number(value);
}

async function readText(source: TextSource, limitBytes: number, kind: string): Promise<string> {
  const where = "path" in source ? (source.path === "-" ? "standard input" : source.path) : kind;
  const text = "path" in source ? await readInput(source.path, limitBytes) : source.text;
  if (kind === "network-config" || /^#cloud-config\s*$/m.test(text.split("\n", 1)[0] ?? "")) {
    const { checkYaml } = await import("./machine-file.ts");
    checkYaml(text, where, `correct the ${kind}: it must be YAML`);
  }
  return text;
}

/** The settings as the API takes them: sizes counted, files read and checked, the user's keys added. */
export async function machineRequest(
  settings: MachineSettings & { name: string },
  home?: string,
): Promise<MachineRequest> {
  const bases = [settings.image, settings.from, settings.cdrom].filter((base) => base !== undefined);
  if (bases.length > 1) throw usage("a machine has one base", "give one of --image, --from, --cdrom");
  const given = await Promise.all((settings.sshKeys ?? []).map(readPublicKeys));
  const own = settings.userKeys === false ? [] : await userPublicKeys(home);
  const { name, image, from, cdrom, cpus, firmware, user, autostart, telnet } = settings;
  const wait = settings.wait === true;
  const check = parseCheck(settings);
  const after = settings.suspendAfter === undefined ? null : parseSuspendAfter(settings.suspendAfter);
  return {
    name,
    ...(image === undefined ? {} : { image }),
    ...(from === undefined ? {} : { from }),
    ...(cdrom === undefined ? {} : { cdrom }),
    ...(settings.arch === undefined ? {} : { arch: parseArch(settings.arch) }),
    ...(cpus === undefined ? {} : { cpus }),
    ...(settings.memory === undefined ? {} : { memoryMiB: parseMemory(settings.memory) }),
    ...(settings.disk === undefined ? {} : { diskBytes: parseDisk(settings.disk) }),
    ...(firmware === undefined ? {} : { firmware }),
    ...(settings.ports === undefined ? {} : { ports: settings.ports.map(parsePublish) }),
    ...(settings.dataDisks === undefined
      ? {}
      : { dataDisks: settings.dataDisks.map((size) => ({ sizeBytes: parseDisk(size) })) }),
    ...(settings.rootVolume === undefined ? {} : { rootVolume: rootVolume(settings.rootVolume) }),
    ...(settings.volumes === undefined ? {} : { volumes: settings.volumes.map(parseVolume) }),
    ...(settings.efiVolume === true ? { efiVolume: true } : {}),
    sshKeys: [...new Set([...own, ...given.flat()])],
    ...(user === undefined ? {} : { user }),
    ...(settings.userData === undefined
      ? {}
      : { userData: await readText(settings.userData, 4_194_304, "user-data") }),
    ...(settings.networkConfig === undefined
      ? {}
      : { networkConfig: await readText(settings.networkConfig, 262_144, "network-config") }),
    ...(settings.env === undefined
      ? {}
      : { env: parseEnvironment(Object.entries(settings.env).map(([key, value]) => `${key}=${value}`)) }),
    ...(settings.kernelArguments === undefined ? {} : { kernelArguments: settings.kernelArguments }),
    ...(autostart === undefined ? {} : { autostart }),
    ...(settings.restart === undefined ? {} : { restart: parseRestart(settings.restart) }),
    ...(check === undefined ? {} : { check }),
    ...(after === null ? {} : { suspendAfterSeconds: after }),
    ...(telnet === undefined ? {} : { telnet }),
    ...(settings.start === true || wait ? { start: true } : {}),
    ...(settings.cold === true ? { cold: true } : {}),
    ...(wait ? { wait } : {}),
    ...(settings.timeout === undefined ? {} : { waitSeconds: parseDuration(settings.timeout) / 1000 }),
  };
}

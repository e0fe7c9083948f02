import { hash } from "node:crypto";
import type { DevicesRecord, HostRecord } from "./types.ts";

/** Options whose values the guest sees; the others name files, sockets and ports of the host. */
const guestOptions = new Set(["-machine", "-smp", "-m", "-device", "-global", "-vga", "-rtc"]);
/** Properties that QEMU takes from the saved state, or that differ from copy to copy. */
const ownProperties = new Set(["mac", "guid"]);

/**
 * The record of what QEMU's arguments make the guest see, in their order: devices with their addresses,
 * board, memory and processors, without the machine's type (recorded by itself), paths, ports, MAC and ids.
 */
export function devicesOf(argv: readonly string[]): DevicesRecord {
  const kept = argv.flatMap((option, index) => {
    const value = argv[index + 1] ?? "";
    if (option === "-drive" && value.startsWith("if=pflash,")) return [`-drive ${flash(value)}`];
    if (option === "-global" && value.startsWith("migration.")) return [];
    return guestOptions.has(option) ? [`${option} ${seenByGuest(option, value)}`] : [];
  });
  return { sha256: digestOfArgv(kept), argv: kept };
}

export function digestOfArgv(argv: readonly string[]): string {
  return hash("sha256", JSON.stringify(argv), "hex");
}

/** Of a firmware's flash, all but the file it is in. */
function flash(value: string): string {
  return words(value)
    .filter((word) => !word.startsWith("file="))
    .join(",");
}

function seenByGuest(option: string, value: string): string {
  const [type, ...properties] = words(value);
  const seen = properties.filter((word) => !ownProperties.has(word.split("=", 1)[0] as string));
  return (option === "-machine" ? seen : [type, ...seen]).join(",");
}

/** QEMU's option parser splits at commas; a doubled one stands for itself. */
function words(value: string): string[] {
  return value.match(/(?:[^,]|,,)+/g) ?? [];
}

/** Whether the machine had the port of the guest's helper. */
export function hasHelperPort({ devices }: HostRecord): boolean {
  return devices.argv.some((device) => device.includes("name=org.skep.helper.0"));
}

/** What of `here` does not fit a state that was saved on `saved`, in words for people; empty: it fits. */
export function differences(saved: HostRecord, here: HostRecord): string[] {
  const found: string[] = [];
  const compare = (what: string, then: string, now: string) => {
    if (then !== now) found.push(`it was saved with ${what} ${then}, and here is ${now}`);
  };
  compare("QEMU", saved.qemu, here.qemu);
  compare("architecture", saved.arch, here.arch);
  compare("accelerator", saved.accelerator, here.accelerator);
  compare("machine type", saved.machineType, here.machineType);
  compare("CPU model", saved.cpuModel, here.cpuModel);
  found.push(...listed("CPU feature", saved.cpuFeatures, here.cpuFeatures));
  const [then, now] = [saved, here].map(({ devices }) => devices.argv.map(withoutVolume)) as [
    string[],
    string[],
  ];
  if (saved.devices.sha256 !== here.devices.sha256 && digestOfArgv(then) !== digestOfArgv(now)) {
    const lists = listed("device", then, now);
    found.push(...(lists.length > 0 ? lists : ["its devices are in another order here"]));
  }
  return found;
}

/** A copy's volumes are others, on the same ports; the guest sees it by the serial alone. */
function withoutVolume(device: string): string {
  return device.replaceAll(/\bvol-?[0-9a-f]{17}\b/g, "vol");
}

const mostNamed = 8;

/** What one list has and the other lacks; the guest would use the first and stumble over the second. */
function listed(what: string, then: readonly string[], now: readonly string[]): string[] {
  const missing = without(then, now);
  const added = without(now, then);
  const say = (names: string[], end: string) => {
    const more = names.length > mostNamed ? ` and ${names.length - mostNamed} more` : "";
    const plural = names.length > 1 ? `${what}s` : what;
    return names.length === 0 ? [] : [`${plural} ${names.slice(0, mostNamed).join("; ")}${more} ${end}`];
  };
  return [...say(missing, "missing here"), ...say(added, "only here")];
}

/** `list` less `others`, each of which takes away one. */
function without(list: readonly string[], others: readonly string[]): string[] {
  const counts = new Map<string, number>();
  for (const one of others) counts.set(one, (counts.get(one) ?? 0) + 1);
  return list.filter((one) => {
    const count = counts.get(one) ?? 0;
    if (count > 0) counts.set(one, count - 1);
    return count === 0;
  });
}

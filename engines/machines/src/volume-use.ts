import type { GuestAgent } from "@skep/qmp";
import type { VolumeOfMachine } from "./machine-file.ts";
import { volumeSerial } from "./volume-device.ts";

/** The guest's answer is a hint, and shall not make a verb wait long. */
const answerLimitMs = 5000;
const fileLimitBytes = 256 * 1024;
const disksLimit = 64;

/**
 * Where a guest has a volume mounted, or swaps to it, as its agent says; nothing where it does not answer.
 * What is written there and only in the guest's memory would be lost with the disk.
 */
export async function usesInGuest(
  agent: GuestAgent,
  { id }: Pick<VolumeOfMachine, "id">,
  signal: AbortSignal,
): Promise<string[]> {
  const within = AbortSignal.any([signal, AbortSignal.timeout(answerLimitMs)]);
  const serial = volumeSerial(id);
  try {
    await agent.ping({ timeoutMs: 2000, signal: within });
    const disk = await diskWithSerial(agent, serial, within);
    const uses = new Set(disk === undefined ? [] : await usesOfDisk(agent, disk, within));
    for (const mountPoint of await mountsByUdev(agent, serial, within)) uses.add(mountPoint);
    return [...uses];
  } catch {
    signal.throwIfAborted();
    return [];
  }
}

/** Sees through LVM and encryption, in guests with udev. */
async function mountsByUdev(agent: GuestAgent, serial: string, signal: AbortSignal): Promise<string[]> {
  type FileSystem = { mountpoint: string; disk: { serial?: string }[] };
  const found = await agent.call<FileSystem[]>("guest-get-fsinfo", {}, { signal }).catch(() => []);
  return found.filter(({ disk }) => disk.some((one) => one.serial === serial)).map((one) => one.mountpoint);
}

/** A disk and its partitions: device numbers and names, as in /proc/partitions. */
interface GuestDisk {
  numbers: Set<string>;
  names: Set<string>;
}

async function diskWithSerial(
  agent: GuestAgent,
  serial: string,
  signal: AbortSignal,
): Promise<GuestDisk | undefined> {
  const lines = (await readInGuest(agent, "/proc/partitions", signal)).split("\n");
  const parts = lines.flatMap((line) => {
    const [, major, minor, name] = /^\s*(\d+)\s+(\d+)\s+\d+\s+(vd[a-z]+\d*)$/.exec(line) ?? [];
    return name === undefined ? [] : [{ number: `${major}:${minor}`, name }];
  });
  for (const { name: disk } of parts.filter(({ name }) => !/\d$/.test(name)).slice(0, disksLimit)) {
    const found = await readInGuest(agent, `/sys/block/${disk}/serial`, signal);
    if (found.trim() !== serial) continue;
    const own = parts.filter(({ name }) => name.replace(/\d+$/, "") === disk);
    return {
      numbers: new Set(own.map(({ number }) => number)),
      names: new Set(own.map(({ name }) => `/dev/${name}`)),
    };
  }
  return undefined;
}

async function usesOfDisk(agent: GuestAgent, disk: GuestDisk, signal: AbortSignal): Promise<string[]> {
  const uses: string[] = [];
  for (const line of (await readInGuest(agent, "/proc/1/mountinfo", signal)).split("\n")) {
    const [own = "", rest = ""] = line.split(" - ", 2);
    const [, , number = "", , mountPoint = ""] = own.split(" ");
    const source = rest.split(" ")[1] ?? "";
    if (disk.numbers.has(number) || disk.names.has(source)) uses.push(mountPoint);
  }
  for (const line of (await readInGuest(agent, "/proc/swaps", signal)).split("\n")) {
    if (disk.names.has(line.split(/\s/, 1)[0] ?? "")) uses.push("swap");
  }
  return uses;
}

async function readInGuest(agent: GuestAgent, path: string, signal: AbortSignal): Promise<string> {
  const handle = await agent.fileOpen(path, "r", { signal });
  try {
    const pieces: Buffer[] = [];
    for (let bytesRead = 0; bytesRead < fileLimitBytes; ) {
      const { bytes, eof } = await agent.fileRead(handle, 64 * 1024, { signal });
      pieces.push(bytes);
      bytesRead += bytes.length;
      if (eof || bytes.length === 0) break;
    }
    return Buffer.concat(pieces).toString("utf8");
  } finally {
    await agent.fileClose(handle).catch(() => undefined);
  }
}

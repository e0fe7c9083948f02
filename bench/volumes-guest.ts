/** fio inside a Debian guest, on a volume and on a qcow2 file, both disks of one machine. */
import { chmod, copyFile, cp, mkdir } from "node:fs/promises";
import { homedir } from "node:os";
import { basename, join, resolve } from "node:path";
import type { Volume } from "@skep/api/schemas";
import { interleave, timed } from "./measure.ts";
import { kib4, type Load, loadFlags, mib, rateOf, type Setting } from "./volumes-fio.ts";
import type { Comparison, Part } from "./volumes-report.ts";

const skepCommand = resolve(import.meta.dirname, "../skep");
const rangeBytes = 256 * mib;

export async function benchGuest(setting: Setting): Promise<Part[]> {
  const { directory } = setting;
  await chmod(resolve(directory, ".."), 0o711); // QEMU runs as its own user where we are root
  await chmod(directory, 0o711);
  const home = join(directory, "home");
  const env = { ...process.env, SKEP_HOME: home, SKEP_RUNTIME_DIR: join(directory, "run") };
  const skep = async (...args: string[]) => (await timed([skepCommand, ...args], env)).stdout;
  await takeImage(home);
  let isOver = false;
  const end = async () => {
    if (isOver) return;
    isOver = true;
    await skep("rm", "--force", "guest").catch(() => undefined);
    await skep("down").catch(() => undefined); // storaged, too
    await skep("daemon", "stop").catch(() => undefined);
  };
  setting.cleanups.defer(end);
  const shape = ["--memory", "1G", "--data-disk", "1G"];
  await skep("new", "guest", "--image", "debian-12", ...shape, "--start", "--wait");
  const tools = JSON.parse(await skep("vol", "import", await packFio(directory), "--json")) as Volume;
  const volume = JSON.parse(await skep("vol", "add", "--size", "1G", "--json")) as Volume;
  for (const { id } of [tools, volume]) await skep("vol", "attach", id, "guest");
  const guest = (script: string) => skep("exec", "guest", "--", "sudo", "sh", "-euc", script);
  const path = (id: string) => `/dev/disk/by-id/virtio-${id.replace("-", "")}`;
  await guest(`for disk in ${path(tools.id)} ${path(volume.id)}; do udevadm wait -t 60 $disk; done
    mkdir -p /mnt/fio && mount -o ro ${path(tools.id)} /mnt/fio`);
  const part = await measure(setting, { skep: path(volume.id), qcow2: "/dev/vdb" }, guest);
  await end();
  return [part];
}

async function measure(
  { rounds, seconds }: Setting,
  devices: Record<string, string>,
  guest: (script: string) => Promise<string>,
): Promise<Part> {
  const fio = async (device: string, load: Load) => {
    const flags = loadFlags({ ...load, seconds });
    const words = { ...flags, ioengine: "libaio", direct: 1, filename: device };
    const text = Object.entries(words).map(([name, value]) => `--${name}=${value}`);
    return rateOf(load, await guest(`LD_LIBRARY_PATH=/mnt/fio /mnt/fio/fio ${text.join(" ")}`));
  };
  const rows: Comparison[] = [];
  const add = async (what: string, load: Load, unit: Comparison["unit"]) => {
    const runs = Object.entries(devices).map(([name, device]) => [
      name,
      async () => {
        const { perSecond, bytesPerSecond } = await fio(device, load);
        return unit === "/s" ? perSecond : bytesPerSecond / 1e6;
      },
    ]);
    const values = await interleave(rounds, Object.fromEntries(runs));
    rows.push({ what, unit, values, limits: {} });
  };
  const large = { blockBytes: mib, depth: 4, rangeBytes };
  const small = { blockBytes: kib4, rangeBytes };
  await add("1 MiB sequential write, flush every 32", { rw: "write", ...large, flushEvery: 32 }, "MB/s");
  await add("1 MiB sequential read", { rw: "read", ...large }, "MB/s");
  for (const depth of [1, 32]) {
    await add(`4 KiB random read, ${depth} at a time`, { rw: "randread", ...small, depth }, "/s");
    const write: Load = { rw: "randwrite", ...small, depth, flushEvery: 32 };
    await add(`4 KiB random write, ${depth} at a time, flush every 32`, write, "/s");
  }
  return {
    name: "guest",
    title: `in a Debian guest, ${rangeBytes / mib} MiB of a disk, past the guest's page cache`,
    durable: "a flush is answered after an fdatasync of the WAL, or of the qcow2",
    rows,
  };
}

async function takeImage(home: string): Promise<void> {
  await mkdir(home, { mode: 0o711 });
  const images = join(process.env.SKEP_TEST_HOME ?? join(homedir(), ".cache/skep-test"), "images");
  await timed(["cp", "-al", images, join(home, "images")], process.env).catch(() =>
    cp(images, join(home, "images"), { recursive: true }),
  );
}

/** A file system with fio and its libraries: the guest is of the same distribution. */
async function packFio(directory: string): Promise<string> {
  const folder = join(directory, "fio");
  await mkdir(folder);
  const fio = (await timed(["sh", "-c", "command -v fio"], process.env)).stdout.trim();
  const { stdout } = await timed(["ldd", fio], process.env);
  const libraries = [...stdout.matchAll(/=> (\/\S+)/g)].map((match) => match[1] as string);
  for (const file of [fio, ...libraries]) {
    if (!/^lib(c|m|resolv)\.so/.test(basename(file))) await copyFile(file, join(folder, basename(file)));
  }
  const image = join(directory, "fio.raw");
  await timed(["mkfs.ext4", "-q", "-d", folder, image, "256M"], process.env);
  return image;
}

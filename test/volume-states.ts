/** A tiny guest with a disk and a volume, for the tests of its snapshots and copies: what it holds where. */
import assert from "node:assert/strict";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import type { ForkResult, MachineSnapshot, MachineSnapshotRestored } from "@skep/api";
import type { Installation } from "./support.ts";
import { VolumeHost } from "./volumes.ts";

/** Sets `d` to the guest's disk of 24 MiB, whatever its serial is. */
export const findDisk = `d=; for s in /sys/block/vd*/size; do [ "$(cat $s)" = 49152 ] && d=$s; done; d=/dev/$(basename $(dirname $d))`;

export class VolumeGuest implements AsyncDisposable {
  readonly host: VolumeHost;
  /** The id of `data`. */
  readonly volume: string;

  private constructor(host: VolumeHost, volume: string) {
    this.host = host;
    this.volume = volume;
  }

  /** Machine `web` runs, with volume `data`, unless it is not to be started. */
  static async make({ start = true } = {}): Promise<VolumeGuest> {
    const host = await VolumeHost.make(["tiny"]);
    try {
      const volume = await host.add("--size", "24M", "--name", "data");
      await host.installation.skep([
        ...["new", "web", "--image", "tiny", "--memory", "96M", "--cpus", "1"],
        ...["--data-disk", "16M", "--volume", "data", ...(start ? ["--start", "--wait"] : [])],
      ]);
      return new VolumeGuest(host, volume);
    } catch (error) {
      await host[Symbol.asyncDispose]();
      throw error;
    }
  }

  get skep(): Installation {
    return this.host.installation;
  }

  async sh(name: string, script: string): Promise<string> {
    return (await this.skep.skep(["exec", name, "--", "sh", "-c", script])).stdout.trim();
  }

  /** To its volume, its disk (both flushed) and its memory. */
  async write(text: string, name = "web"): Promise<void> {
    const to = (where: string) => `printf '%-8s' ${text} | dd of=${where} conv=notrunc,fsync 2>/dev/null`;
    await this.sh(name, `${findDisk}; ${to("$d")}; ${to("/dev/vda")}; echo ${text} >/text`);
  }

  /** What the volume, the disk and the memory hold; `none` in a memory that was booted. */
  async holds(name = "web"): Promise<string[]> {
    const script = `${findDisk}; head -c 8 $d; echo; head -c 8 /dev/vda; echo; cat /text 2>/dev/null || echo none`;
    return (await this.sh(name, script)).split("\n").map((line) => line.replaceAll("\0", "").trim());
  }

  async take(name: string, ...more: string[]): Promise<MachineSnapshot> {
    const { stdout } = await this.skep.skep(["snapshot", "create", "web", name, "--json", ...more]);
    return JSON.parse(stdout) as MachineSnapshot;
  }

  async restore(name: string, ...more: string[]): Promise<MachineSnapshotRestored> {
    const { stdout } = await this.skep.skep(["snapshot", "restore", "web", name, "--json", ...more]);
    return JSON.parse(stdout) as MachineSnapshotRestored;
  }

  async fork(...args: string[]): Promise<ForkResult> {
    return JSON.parse((await this.skep.skep(["fork", "web", ...args, "--json"])).stdout) as ForkResult;
  }

  async snapshots(): Promise<MachineSnapshot[]> {
    return JSON.parse((await this.skep.skep(["snapshot", "ls", "web", "--json"])).stdout);
  }

  /** The names of the volume's snapshots. */
  async ofVolume(): Promise<(string | null)[]> {
    return (await this.host.show(this.volume)).snapshots.map(({ name }) => name);
  }

  /** What a command that has to fail says. */
  async refusal(...args: string[]): Promise<string> {
    const { stderr, status } = await this.skep.skep(args, { status: null });
    assert.notEqual(status, 0, `skep ${args.join(" ")} did not fail`);
    return stderr;
  }

  /** There are no machines and volumes but the one, and only the snapshots of the volume that its machine's name. */
  async checkClean(): Promise<void> {
    const { home } = this.skep;
    const beside = await readdir(join(home, "machines/web/snapshots")).catch(() => []);
    assert.deepEqual(
      beside.filter((name) => name.startsWith(".")),
      [],
    );
    assert.deepEqual(await readdir(join(home, "machines")), ["web"]);
    const [volumes, snapshots] = await Promise.all([this.host.list(), this.snapshots()]);
    assert.deepEqual(
      volumes.map(({ name }) => name),
      ["data"],
    );
    const named = snapshots.flatMap((one) => one.volumes.map(({ snapshot }) => snapshot));
    const there = volumes.flatMap((volume) => volume.snapshots.map(({ id }) => id));
    assert.deepEqual(there.sort(), named.sort());
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.host[Symbol.asyncDispose]();
  }
}

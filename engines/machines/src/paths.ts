import { join } from "node:path";

/** Every on-disk name of this room; `docs/internals.md` says what each file is. */
export interface MachinePaths {
  /** `$SKEP_HOME/machines/<name>`: everything lasting. */
  directory: string;
  file: string;
  /** What happened at the last start and stop. */
  run: string;
  /** What its restart policy has done since a person started it. */
  restarts: string;
  disk: string;
  seed: string;
  consoleLog: string;
  qemuLog: string;
  efiVars: string;
  knownHosts: string;
  /** Empty in a copy whose guest has not yet been told who it is: it goes when skepd does. */
  forking: string;
  dataDisk(index: number): string;
  /** Second name of a disk that a running QEMU was given: it opens disks anew, by the name it knows. */
  liveDisk(node: string): string;
}

export function machinePaths(home: string, name: string): MachinePaths {
  const directory = join(home, "machines", name);
  return {
    directory,
    file: join(directory, "machine.json"),
    run: join(directory, "run.json"),
    restarts: join(directory, "restarts.json"),
    disk: join(directory, "disk.qcow2"),
    seed: join(directory, "seed.iso"),
    consoleLog: join(directory, "console.log"),
    qemuLog: join(directory, "qemu.log"),
    efiVars: join(directory, "efi-vars.fd"),
    knownHosts: join(directory, "known_hosts"),
    forking: join(directory, "forking"),
    dataDisk: (index) => join(directory, `data-${index}.qcow2`),
    liveDisk: (node) => join(directory, `${node}.qcow2`),
  };
}

/** In the directory of a machine that is being made: the names of the volumes that are made with it. */
export function ownVolumesFile(directory: string): string {
  return join(directory, "volumes.json");
}

export interface RuntimePaths {
  /** `<runtime directory>/<short id>`: dies with the host's boot. */
  directory: string;
  /** Ours: many scripts may connect. */
  console: string;
  /** Owned by the machine's own user; QEMU makes its sockets and pidfile here. */
  qemu: string;
  qmp: string;
  agent: string;
  /** The guest's helper, where it has one (guest/PROTOCOL.md). */
  helper: string;
  serial: string;
  /** The human monitor, for `echo quit | nc -U control.sock`. */
  control: string;
  pid: string;
  screen: string;
}

export function shortId(id: string): string {
  return id.replaceAll("-", "").slice(0, 8);
}

export function runtimePaths(runtime: string, id: string): RuntimePaths {
  const directory = join(runtime, shortId(id));
  const qemu = join(directory, "qemu");
  return {
    directory,
    console: join(directory, "console.sock"),
    qemu,
    qmp: join(qemu, "qmp.sock"),
    agent: join(qemu, "agent.sock"),
    helper: join(qemu, "helper.sock"),
    serial: join(qemu, "serial.sock"),
    control: join(qemu, "control.sock"),
    pid: join(qemu, "qemu.pid"),
    screen: join(qemu, "screen.png"),
  };
}

/** Where guest memory lives while a machine runs: tmpfs, since a user's runtime directory is too small. */
export function memoryDirectory(id: string): string {
  return `/dev/shm/skep-${shortId(id)}`;
}

/**
 * A machine as it stood at one instant, on tmpfs, for copies to borrow its memory (engines/arks). `id` is that of
 * its state: `st-` and 17 hexadecimal digits.
 */
export function frozenDirectory(id: string): string {
  return `/dev/shm/skep-frozen-${id}`;
}

/** The memory in it, which nobody writes. */
export function frozenRam(id: string): string {
  return join(frozenDirectory(id), "ram");
}

export const homePaths = (home: string) => ({
  machines: join(home, "machines"),
  layers: join(home, "layers"),
  sshKey: join(home, "ssh", "id_ed25519"),
  sshConfig: join(home, "ssh", "config"),
  accelerator: join(home, "accelerator.json"),
});

/** Bytes that fit into `sockaddr_un.sun_path`, less the final NUL (Linux 108, macOS 104). */
export const socketPathLimit = process.platform === "linux" ? 107 : 103;

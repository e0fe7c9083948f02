/**
 * The QMP commands that skep uses: arguments and answers as QEMU 7.2's schema has them, reduced to
 * the members that skep reads. Source: QEMU QMP reference manual.
 */

type None = Record<string, never>;

export type RunState =
  | "debug"
  | "finish-migrate"
  | "guest-panicked"
  | "inmigrate"
  | "internal-error"
  | "io-error"
  | "paused"
  | "postmigrate"
  | "prelaunch"
  | "restore-vm"
  | "running"
  | "save-vm"
  | "shutdown"
  | "suspended"
  | "watchdog"
  | "colo";

export interface BlockStats {
  device?: string;
  qdev?: string;
  "node-name"?: string;
  stats: {
    rd_bytes: number;
    wr_bytes: number;
    rd_operations: number;
    wr_operations: number;
    flush_operations: number;
    wr_highest_offset: number;
  };
}

export interface BlockInfo {
  device: string;
  qdev?: string;
  removable: boolean;
  locked: boolean;
  "io-status"?: "ok" | "failed" | "nospace";
  inserted?: {
    file: string;
    "node-name"?: string;
    drv: string;
    ro: boolean;
    image: { "virtual-size": number; "actual-size"?: number };
  };
}

export interface MigrationInfo {
  status?:
    | "none"
    | "setup"
    | "cancelling"
    | "cancelled"
    | "active"
    | "postcopy-active"
    | "postcopy-paused"
    | "postcopy-recover"
    | "completed"
    | "failed"
    | "colo"
    | "pre-switchover"
    | "device"
    | "wait-unplug";
  "error-desc"?: string;
  "total-time"?: number;
  downtime?: number;
  "expected-downtime"?: number;
  "setup-time"?: number;
  ram?: { transferred: number; remaining: number; total: number; "dirty-pages-rate"?: number; mbps?: number };
}

interface Arguments<A, R> {
  arguments: A;
  return: R;
}

type Device = { driver: string; id?: string; bus?: string } & { [property: string]: unknown };
type Netdev = { type: string; id: string } & { [property: string]: unknown };
type Node = { driver: string; "node-name"?: string } & { [property: string]: unknown };
type Backend = { "qom-type": string; id: string } & { [property: string]: unknown };

export interface QmpCommands {
  "query-status": Arguments<None, { status: RunState; running: boolean }>;
  "query-version": Arguments<
    None,
    { qemu: { major: number; minor: number; micro: number }; package: string }
  >;
  "query-name": Arguments<None, { name?: string }>;
  "query-uuid": Arguments<None, { UUID: string }>;
  "query-kvm": Arguments<None, { enabled: boolean; present: boolean }>;
  "query-commands": Arguments<None, { name: string }[]>;
  "query-cpus-fast": Arguments<None, { "cpu-index": number; "thread-id": number; "qom-path": string }[]>;
  "query-memory-size-summary": Arguments<None, { "base-memory": number; "plugged-memory"?: number }>;
  "query-balloon": Arguments<None, { actual: number }>;
  "query-vm-generation-id": Arguments<None, { guid: string }>;
  /** `full` names every property of the model, with the features that the accelerator gives it. */
  "query-cpu-model-expansion": Arguments<
    { type: "full" | "static"; model: { name: string; props?: { [property: string]: unknown } } },
    { model: { name: string; props?: { [property: string]: unknown } } }
  >;
  "query-machines": Arguments<
    None,
    { name: string; alias?: string; "is-default"?: boolean; "cpu-max": number; deprecated: boolean }[]
  >;
  "query-chardev": Arguments<None, { label: string; filename: string; "frontend-open": boolean }[]>;
  "query-block": Arguments<None, BlockInfo[]>;
  "query-blockstats": Arguments<{ "query-nodes"?: boolean }, BlockStats[]>;
  "query-named-block-nodes": Arguments<{ flat?: boolean }, { "node-name": string; file: string }[]>;
  "query-migrate": Arguments<None, MigrationInfo>;
  quit: Arguments<None, None>;
  stop: Arguments<None, None>;
  cont: Arguments<None, None>;
  system_powerdown: Arguments<None, None>;
  system_reset: Arguments<None, None>;
  system_wakeup: Arguments<None, None>;
  "set-action": Arguments<{ reboot?: string; shutdown?: string; panic?: string; watchdog?: string }, None>;
  "human-monitor-command": Arguments<{ "command-line": string }, string>;
  screendump: Arguments<{ filename: string; format?: "ppm" | "png"; device?: string }, None>;
  "send-key": Arguments<
    { keys: { type: "qcode" | "number"; data: string | number }[]; "hold-time"?: number },
    None
  >;
  block_resize: Arguments<{ device?: string; "node-name"?: string; size: number }, None>;
  "blockdev-add": Arguments<Node, None>;
  "blockdev-del": Arguments<{ "node-name": string }, None>;
  /** All or nothing. `node` and `overlay` are names of nodes; the overlay has no base yet. */
  transaction: Arguments<
    { actions: { type: "blockdev-snapshot"; data: { node: string; overlay: string } }[] },
    None
  >;
  device_add: Arguments<Device, None>;
  device_del: Arguments<{ id: string }, None>;
  netdev_add: Arguments<Netdev, None>;
  netdev_del: Arguments<{ id: string }, None>;
  set_link: Arguments<{ name: string; up: boolean }, None>;
  "object-add": Arguments<Backend, None>;
  "object-del": Arguments<{ id: string }, None>;
  "qom-get": Arguments<{ path: string; property: string }, unknown>;
  "qom-set": Arguments<{ path: string; property: string; value: unknown }, None>;
  "qom-list": Arguments<{ path: string }, { name: string; type: string }[]>;
  migrate: Arguments<{ uri: string; resume?: boolean }, None>;
  "migrate-incoming": Arguments<{ uri: string }, None>;
  migrate_cancel: Arguments<None, None>;
  /** The state of all devices, without memory, into a file that QEMU's user may write. */
  "xen-save-devices-state": Arguments<{ filename: string; live?: boolean }, None>;
  "migrate-set-capabilities": Arguments<{ capabilities: { capability: string; state: boolean }[] }, None>;
  "migrate-set-parameters": Arguments<{ [parameter: string]: unknown }, None>;
}

/** An event as QEMU sends it. Common ones: STOP RESUME SHUTDOWN RESET POWERDOWN GUEST_PANICKED BLOCK_IO_ERROR DEVICE_DELETED VSERPORT_CHANGE MIGRATION. */
export interface QmpEvent {
  event: string;
  data: { [key: string]: unknown };
  /** Host's clock; `seconds` is -1 where QEMU could not read it. */
  timestamp: { seconds: number; microseconds: number };
}

export interface QmpGreeting {
  QMP: {
    version: { qemu: { major: number; minor: number; micro: number }; package: string };
    capabilities: string[];
  };
}

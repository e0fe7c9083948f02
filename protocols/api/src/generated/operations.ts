// Made by scripts/generate-client.ts from the OpenAPI document of faces/control: npm run generate

export interface AccessKey {
  accessKeyId: string;
  /** its name */
  account: string;
  /** may be empty */
  name: string;
  /** empty: all that its account may */
  scopes: ({
    bucket: string;
    access: "read" | "write";
  })[];
  createdAt: string;
  lastUsedAt: string | null;
}

export interface AccessKeyCreate {
  /** default: the first account */
  account?: string;
  name?: string;
  scopes?: ({
    bucket: string;
    access: "read" | "write";
  })[];
  /** to take over a known key */
  accessKeyId?: string;
  secret?: string;
}

export interface AccessKeyCreated {
  key: {
    accessKeyId: string;
    /** its name */
    account: string;
    /** may be empty */
    name: string;
    /** empty: all that its account may */
    scopes: ({
      bucket: string;
      access: "read" | "write";
    })[];
    createdAt: string;
    lastUsedAt: string | null;
  };
  /** shown once */
  secret: string;
}

export interface Account {
  /** canonical id */
  id: string;
  /** twelve digits, as in ARNs */
  number: string;
  name: string;
  /** may be empty */
  email: string;
  createdAt: string;
}

export interface AccountCreate {
  name: string;
  email?: string;
  /** canonical id; a new one without */
  id?: string;
}

export interface Bucket {
  name: string;
  /** its owner's name, or id where there is no such account */
  account: string;
  createdAt: string;
  versioning: "off" | "enabled" | "suspended";
  objects: number;
  /** of all versions and parts */
  bytes: number;
  /** delete markers included */
  versions: number;
  /** unfinished */
  uploads: number;
}

export interface BucketCreate {
  name: string;
  /** default: the first account */
  account?: string;
}

export interface CatalogEntry {
  name: string;
  arch: "x86_64" | "aarch64";
  url: string;
  user: string;
  verification: string;
  present: boolean;
}

export interface Check {
  name: string;
  status: "ok" | "warning" | "failed";
  detail: string;
  fix: string | null;
}

export interface ErrorResponse {
  error: {
    code: string;
    message: string;
    hint?: string;
  };
}

export interface Event {
  id: number;
  time: string;
  /** machine.state, machine.created, machine.removed, image.…, job.… */
  type: string;
  subject: string;
  data: unknown;
}

export type ExecControl = {
  resize: {
    columns: number;
    rows: number;
  };
} | {
  signal: string;
} | {
  stdinEnd: true;
};

export interface ExecRequest {
  command: string[];
  tty?: {
    columns: number;
    rows: number;
    term: string;
  };
  user?: string;
  env?: Record<string, string>;
  stdinTaken?: boolean;
}

export interface ForkRequest {
  /** of the one copy; default: PREFIX-1 */
  name?: string;
  /** default 1 */
  count?: number;
  /** of the copies' names, PREFIX-1 and on; default: the machine's name */
  prefix?: string;
  /** of the machine, with memory: the copies go on from it; default: from now */
  snapshot?: string;
  /** default true: each copy gets its own MAC, names, keys and random numbers before anything in it answers; false: copies keep those of their machine */
  identity?: boolean;
  /** also where this host may lack the memory */
  force?: boolean;
}

export interface ForkResult {
  /** the machine that was forked */
  source: string;
  /** how long it stood still; null where it did not run */
  pauseMs: number | null;
  /** memory that its guest had touched */
  populatedMiB: number;
  /** of all of it */
  durationMs: number;
  copies: ({
    name: string;
    id: string;
    mac: string;
    ssh: {
      host: string;
      port: number;
      user: string;
    } | null;
    /** from the request to the helper's answer that it has its identity; without identity: until it ran */
    readyMs: number;
    /** its own: clones of the machine's volumes */
    volumes: string[];
    /** empty where none was asked for */
    identity: ({
      /** seed, clock, mac, hostname, machine-id, instance, ssh host keys, … */
      step: string;
      /** skipped: the guest has no such thing */
      outcome: "done" | "skipped" | "failed";
      /** where it is not done */
      why: string | null;
    })[];
  })[];
}

export interface ForkedMachine {
  name: string;
  id: string;
  mac: string;
  ssh: {
    host: string;
    port: number;
    user: string;
  } | null;
  /** from the request to the helper's answer that it has its identity; without identity: until it ran */
  readyMs: number;
  /** its own: clones of the machine's volumes */
  volumes: string[];
  /** empty where none was asked for */
  identity: ({
    /** seed, clock, mac, hostname, machine-id, instance, ssh host keys, … */
    step: string;
    /** skipped: the guest has no such thing */
    outcome: "done" | "skipped" | "failed";
    /** where it is not done */
    why: string | null;
  })[];
}

export interface IdentityStep {
  /** seed, clock, mac, hostname, machine-id, instance, ssh host keys, … */
  step: string;
  /** skipped: the guest has no such thing */
  outcome: "done" | "skipped" | "failed";
  /** where it is not done */
  why: string | null;
}

export interface Idle {
  /** when it was used last, as far as skepd has seen */
  since: string;
  busy: string | null;
  failure: string | null;
  retryAt: string | null;
}

export interface Image {
  name: string;
  /** sha256:… of the image's manifest */
  digest: string;
  arch: "x86_64" | "aarch64";
  format: "raw" | "qcow2" | "none";
  virtualBytes: number;
  storedBytes: number;
  /** a kernel is kept beside the disk */
  directBoot: boolean;
  user: string;
  /** where it came from, for people */
  source: string;
  createdAt: string;
  usedBy: string[];
}

export interface ImageBuild {
  /** YAML text of a recipe */
  recipe?: string;
  /** a built-in recipe (debian-12, tiny), or the new image's name */
  name?: string;
  arch?: "x86_64" | "aarch64";
  /** apt source lines instead of this host's */
  source?: string;
  force?: boolean;
}

export interface ImageDetails {
  image: {
    name: string;
    /** sha256:… of the image's manifest */
    digest: string;
    arch: "x86_64" | "aarch64";
    format: "raw" | "qcow2" | "none";
    virtualBytes: number;
    storedBytes: number;
    /** a kernel is kept beside the disk */
    directBoot: boolean;
    user: string;
    /** where it came from, for people */
    source: string;
    createdAt: string;
    usedBy: string[];
  };
  manifest: unknown;
  directory: string;
}

export interface ImageImport {
  /** a file on skepd's host */
  path: string;
  name?: string;
  arch?: "x86_64" | "aarch64";
  user?: string;
  sha256?: string;
}

export interface ImagePull {
  /** a name of the catalog, or a URL */
  name: string;
  as?: string;
  arch?: "x86_64" | "aarch64";
  sha256?: string;
  force?: boolean;
}

export interface Job {
  id: string;
  /** machine.create, image.pull, … */
  kind: string;
  /** the machine or image it works on */
  subject: string;
  state: "running" | "succeeded" | "failed" | "cancelled";
  progress: {
    phase: string;
    done?: number;
    total?: number;
    unit?: "bytes" | "steps";
  } | null;
  notes: string[];
  error: {
    code: string;
    message: string;
    hint?: string;
  } | null;
  result: unknown;
  createdAt: string;
  finishedAt: string | null;
}

export interface Listen {
  address: string | null;
}

export interface Liveness {
  /** waiting: it has not succeeded yet since the start */
  state: "waiting" | "passing" | "failing";
  since: string;
  /** in a row, just now */
  failures: number;
  why: string | null;
}

export interface LivenessCheck {
  /** agent: the guest agent answers; tcp: the guest accepts a connection on `port`; http: a GET of `path` on `port` is answered with 200 to 399; command: a line for the guest's /bin/sh, run as root by the agent, ends with 0 */
  kind: "agent" | "tcp" | "http" | "command";
  port: number | null;
  path: string | null;
  command: string | null;
  intervalSeconds: number;
  timeoutSeconds: number;
  failures: number;
  startSeconds: number | null;
}

export interface LivenessRequest {
  /** agent: the guest agent answers; tcp: the guest accepts a connection on `port`; http: a GET of `path` on `port` is answered with 200 to 399; command: a line for the guest's /bin/sh, run as root by the agent, ends with 0 */
  kind: "agent" | "tcp" | "http" | "command";
  /** of the guest; it must be forwarded */
  port?: number;
  /** http: default / */
  path?: string;
  command?: string;
  /** between two checks; default 10 */
  intervalSeconds?: number;
  /** of one check; default 5 */
  timeoutSeconds?: number;
  /** in a row, until it counts; default 3 */
  failures?: number;
  /** after a start, until the first success; nothing counts before; default 180, emulated 600 */
  startSeconds?: number;
}

export interface Machine {
  id: string;
  name: string;
  state: "stopped" | "starting" | "running" | "paused" | "stopping" | "suspending" | "suspended" | "resuming" | "damaged";
  reason: string | null;
  image: string | null;
  imageDigest: string | null;
  from: string | null;
  arch: "x86_64" | "aarch64";
  cpus: number;
  memoryMiB: number;
  diskBytes: number;
  firmware: "bios" | "uefi";
  accelerator: string | null;
  ports: ({
    hostAddress: string;
    hostPort: number;
    guestPort: number;
    protocol: "tcp" | "udp";
    automatic: boolean;
  })[];
  dataDisks: {
    sizeBytes: number;
  }[];
  volumes: ({
    id: string;
    role: "data" | "root" | "efi";
    readOnly: boolean;
    sizeBytes: number;
    slot: number | null;
    device: string | null;
    detaching: boolean;
  })[];
  ssh: {
    host: string;
    port: number;
    user: string;
  } | null;
  mac: string;
  autostart: boolean;
  restart: {
    /** on-failure: QEMU ended by itself, the guest panicked, or its check fails; always: also where the guest shut itself down. What its user stopped stays stopped */
    policy: "no" | "on-failure" | "always";
    attempts: number | null;
  };
  restarts: {
    /** restarts since then */
    count: number;
    /** of them, without ten good minutes between */
    inARow: number;
    lastAt: string | null;
    why: string | null;
    dueAt: string | null;
    /** not tried any more, as the policy says */
    gaveUp: boolean;
  } | null;
  check: {
    /** agent: the guest agent answers; tcp: the guest accepts a connection on `port`; http: a GET of `path` on `port` is answered with 200 to 399; command: a line for the guest's /bin/sh, run as root by the agent, ends with 0 */
    kind: "agent" | "tcp" | "http" | "command";
    port: number | null;
    path: string | null;
    command: string | null;
    intervalSeconds: number;
    timeoutSeconds: number;
    failures: number;
    startSeconds: number | null;
  } | null;
  liveness: {
    /** waiting: it has not succeeded yet since the start */
    state: "waiting" | "passing" | "failing";
    since: string;
    /** in a row, just now */
    failures: number;
    why: string | null;
  } | null;
  suspendAfterSeconds: number | null;
  idle: {
    /** when it was used last, as far as skepd has seen */
    since: string;
    busy: string | null;
    failure: string | null;
    retryAt: string | null;
  } | null;
  telnetPort: number | null;
  pid: number | null;
  ready: boolean;
  createdAt: string;
  startedAt: string | null;
  suspended: {
    /** id of the stored state: st- and 17 hexadecimal digits */
    state: string;
    /** when the guest was stopped */
    at: string;
    /** memory that the guest had touched */
    populatedMiB: number;
    /** what the state takes on disk */
    storedBytes: number;
    /** from the guest's stop until all of it was on stable storage */
    pauseMs: number;
    /** it sleeps because nobody used it: a connection to one of its ports wakes it */
    idle: boolean;
  } | null;
  directory: string;
  sockets: {
    console: string;
    control: string;
  };
}

export interface MachineEdit {
  cpus?: number;
  memoryMiB?: number;
  diskBytes?: number;
  autostart?: boolean;
  restart?: {
    /** on-failure: QEMU ended by itself, the guest panicked, or its check fails; always: also where the guest shut itself down. What its user stopped stays stopped */
    policy: "no" | "on-failure" | "always";
    /** on-failure: in a row, then it is given up; default 5 */
    attempts?: number;
  };
  check?: {
    /** agent: the guest agent answers; tcp: the guest accepts a connection on `port`; http: a GET of `path` on `port` is answered with 200 to 399; command: a line for the guest's /bin/sh, run as root by the agent, ends with 0 */
    kind: "agent" | "tcp" | "http" | "command";
    /** of the guest; it must be forwarded */
    port?: number;
    /** http: default / */
    path?: string;
    command?: string;
    /** between two checks; default 10 */
    intervalSeconds?: number;
    /** of one check; default 5 */
    timeoutSeconds?: number;
    /** in a row, until it counts; default 3 */
    failures?: number;
    /** after a start, until the first success; nothing counts before; default 180, emulated 600 */
    startSeconds?: number;
  } | null;
  suspendAfterSeconds?: number | null;
  user?: string;
  kernelArguments?: string;
  telnet?: boolean;
}

export interface MachineRequest {
  name: string;
  /** image name or digest */
  image?: string;
  /** a stopped machine whose disk is the base */
  from?: string;
  /** path of an ISO on skepd's host, booted first */
  cdrom?: string;
  arch?: "x86_64" | "aarch64";
  cpus?: number;
  memoryMiB?: number;
  diskBytes?: number;
  firmware?: "bios" | "uefi";
  ports?: ({
    /** default 127.0.0.1 */
    hostAddress?: string;
    hostPort: number;
    guestPort: number;
    protocol?: "tcp" | "udp";
  })[];
  dataDisks?: {
    sizeBytes: number;
  }[];
  /** the disk is a new volume, filled from the image */
  rootVolume?: {
    /** default: diskBytes */
    sizeBytes?: number;
  };
  /** attached from the start */
  volumes?: {
    /** a volume's id or name */
    volume: string;
    readOnly?: boolean;
  }[];
  /** UEFI variables on a new volume */
  efiVolume?: boolean;
  sshKeys?: string[];
  /** login user; default: the image's */
  user?: string;
  userData?: string;
  networkConfig?: string;
  env?: Record<string, string>;
  kernelArguments?: string;
  autostart?: boolean;
  restart?: {
    /** on-failure: QEMU ended by itself, the guest panicked, or its check fails; always: also where the guest shut itself down. What its user stopped stays stopped */
    policy: "no" | "on-failure" | "always";
    /** on-failure: in a row, then it is given up; default 5 */
    attempts?: number;
  };
  check?: {
    /** agent: the guest agent answers; tcp: the guest accepts a connection on `port`; http: a GET of `path` on `port` is answered with 200 to 399; command: a line for the guest's /bin/sh, run as root by the agent, ends with 0 */
    kind: "agent" | "tcp" | "http" | "command";
    /** of the guest; it must be forwarded */
    port?: number;
    /** http: default / */
    path?: string;
    command?: string;
    /** between two checks; default 10 */
    intervalSeconds?: number;
    /** of one check; default 5 */
    timeoutSeconds?: number;
    /** in a row, until it counts; default 3 */
    failures?: number;
    /** after a start, until the first success; nothing counts before; default 180, emulated 600 */
    startSeconds?: number;
  };
  /** suspend it once it was idle for so many seconds; a connection to one of its ports then wakes it */
  suspendAfterSeconds?: number;
  telnet?: boolean;
  start?: boolean;
  /** its first start boots, whatever templates there are */
  cold?: boolean;
  /** with start: until its check succeeds, or else ssh or the agent answers */
  wait?: boolean;
  waitSeconds?: number;
}

export interface MachineSnapshot {
  name: string;
  /** the machine's name */
  machine: string;
  createdAt: string;
  /** what the machine was */
  state: "running" | "suspended" | "stopped";
  memory: {
    /** id of the stored state: st- and 17 hexadecimal digits */
    state: string;
    /** memory that the guest had touched */
    populatedMiB: number;
    /** what the state takes on disk */
    storedBytes: number;
  } | null;
  /** as the guest saw them, the root disk first; `layer` is a path in skepd's home */
  disks: ({
    sizeBytes: number;
    layer: string | null;
  })[];
  /** that were attached */
  volumes: {
    /** of the volume */
    id: string;
    sizeBytes: number;
    /** of the volume, which goes with this one */
    snapshot: string;
  }[];
  /** what its disks' own layers and its memory take; layers below are shared */
  storedBytes: number;
  fileSystemsFrozen: boolean | null;
  pauseMs: number | null;
  parent: string | null;
  /** the machine's disks go on from this one */
  current: boolean;
  problem: string | null;
}

export interface MachineSnapshotCreate {
  /** default: snapshot-1 and on */
  name?: string;
  /** default true; false: only the disks, also of a machine that runs */
  memory?: boolean;
}

export interface MachineSnapshotRestore {
  /** default false: what the machine is now is first kept as a snapshot */
  discard?: boolean;
  /** the disks alone: the machine boots from them, as after a power cut */
  cold?: boolean;
  /** until ssh or the agent answers, where it runs then */
  wait?: boolean;
  waitSeconds?: number;
}

export interface MachineSnapshotRestored {
  machine: {
    id: string;
    name: string;
    state: "stopped" | "starting" | "running" | "paused" | "stopping" | "suspending" | "suspended" | "resuming" | "damaged";
    reason: string | null;
    image: string | null;
    imageDigest: string | null;
    from: string | null;
    arch: "x86_64" | "aarch64";
    cpus: number;
    memoryMiB: number;
    diskBytes: number;
    firmware: "bios" | "uefi";
    accelerator: string | null;
    ports: ({
      hostAddress: string;
      hostPort: number;
      guestPort: number;
      protocol: "tcp" | "udp";
      automatic: boolean;
    })[];
    dataDisks: {
      sizeBytes: number;
    }[];
    volumes: ({
      id: string;
      role: "data" | "root" | "efi";
      readOnly: boolean;
      sizeBytes: number;
      slot: number | null;
      device: string | null;
      detaching: boolean;
    })[];
    ssh: {
      host: string;
      port: number;
      user: string;
    } | null;
    mac: string;
    autostart: boolean;
    restart: {
      /** on-failure: QEMU ended by itself, the guest panicked, or its check fails; always: also where the guest shut itself down. What its user stopped stays stopped */
      policy: "no" | "on-failure" | "always";
      attempts: number | null;
    };
    restarts: {
      /** restarts since then */
      count: number;
      /** of them, without ten good minutes between */
      inARow: number;
      lastAt: string | null;
      why: string | null;
      dueAt: string | null;
      /** not tried any more, as the policy says */
      gaveUp: boolean;
    } | null;
    check: {
      /** agent: the guest agent answers; tcp: the guest accepts a connection on `port`; http: a GET of `path` on `port` is answered with 200 to 399; command: a line for the guest's /bin/sh, run as root by the agent, ends with 0 */
      kind: "agent" | "tcp" | "http" | "command";
      port: number | null;
      path: string | null;
      command: string | null;
      intervalSeconds: number;
      timeoutSeconds: number;
      failures: number;
      startSeconds: number | null;
    } | null;
    liveness: {
      /** waiting: it has not succeeded yet since the start */
      state: "waiting" | "passing" | "failing";
      since: string;
      /** in a row, just now */
      failures: number;
      why: string | null;
    } | null;
    suspendAfterSeconds: number | null;
    idle: {
      /** when it was used last, as far as skepd has seen */
      since: string;
      busy: string | null;
      failure: string | null;
      retryAt: string | null;
    } | null;
    telnetPort: number | null;
    pid: number | null;
    ready: boolean;
    createdAt: string;
    startedAt: string | null;
    suspended: {
      /** id of the stored state: st- and 17 hexadecimal digits */
      state: string;
      /** when the guest was stopped */
      at: string;
      /** memory that the guest had touched */
      populatedMiB: number;
      /** what the state takes on disk */
      storedBytes: number;
      /** from the guest's stop until all of it was on stable storage */
      pauseMs: number;
      /** it sleeps because nobody used it: a connection to one of its ports wakes it */
      idle: boolean;
    } | null;
    directory: string;
    sockets: {
      console: string;
      control: string;
    };
  };
  /** that it was set back to */
  snapshot: string;
  kept: string | null;
  /** how it is now: went on where it was, boots from its disk, or rests */
  how: "resumed" | "booted" | "suspended" | "stopped";
  /** until the guest ran */
  durationMs: number;
}

export interface MachineStats {
  name: string;
  time: string;
  cpuSeconds: number;
  memoryResidentBytes: number;
  memoryMiB: number;
  diskReadBytes: number;
  diskWrittenBytes: number;
  diskAllocatedBytes: number;
  networkReceivedBytes: number | null;
  networkSentBytes: number | null;
}

export interface MachineVolume {
  id: string;
  role: "data" | "root" | "efi";
  readOnly: boolean;
  sizeBytes: number;
  slot: number | null;
  device: string | null;
  detaching: boolean;
}

export interface ObjectPage {
  objects: {
    key: string;
    sizeBytes: number;
    etag: string;
    modifiedAt: string;
  }[];
  prefixes: string[];
  next: string | null;
}

export interface ObjectRemoval {
  keys: string[];
}

export interface Port {
  hostAddress: string;
  hostPort: number;
  guestPort: number;
  protocol: "tcp" | "udp";
  automatic: boolean;
}

export interface PortRequest {
  /** default 127.0.0.1 */
  hostAddress?: string;
  hostPort: number;
  guestPort: number;
  protocol?: "tcp" | "udp";
}

export interface PresignRequest {
  method: "GET" | "HEAD" | "PUT" | "POST" | "DELETE";
  bucket: string;
  key?: string;
  query?: Record<string, string>;
  headers?: Record<string, string>;
  expiresInSeconds?: number;
  /** URL; without, the local socket's */
  endpoint?: string;
}

export interface Presigned {
  url: string;
  socket: string | null;
  expiresAt: string;
}

export interface Pruned {
  removed: string[];
  freedBytes: number;
}

export interface QemuCommand {
  command: string[];
  /** made by a start, removed by a stop */
  directories: string[];
}

export interface RemoveRequest {
  /** stop it first if it runs */
  force?: boolean;
  /** also its root and efi volume */
  keepVolumes?: boolean;
}

export interface RestartPolicy {
  /** on-failure: QEMU ended by itself, the guest panicked, or its check fails; always: also where the guest shut itself down. What its user stopped stays stopped */
  policy: "no" | "on-failure" | "always";
  attempts: number | null;
}

export interface RestartRequest {
  /** on-failure: QEMU ended by itself, the guest panicked, or its check fails; always: also where the guest shut itself down. What its user stopped stays stopped */
  policy: "no" | "on-failure" | "always";
  /** on-failure: in a row, then it is given up; default 5 */
  attempts?: number;
}

export interface Restarts {
  /** restarts since then */
  count: number;
  /** of them, without ten good minutes between */
  inARow: number;
  lastAt: string | null;
  why: string | null;
  dueAt: string | null;
  /** not tried any more, as the policy says */
  gaveUp: boolean;
}

export interface ResumeRequest {
  /** give up the stored memory and boot from the disk, as after a power cut */
  cold?: boolean;
  /** until ssh or the agent answers */
  wait?: boolean;
  waitSeconds?: number;
  /** run the guest's own programs for this; default true */
  hooks?: boolean;
  /** for each of them; default 30 */
  hookSeconds?: number;
}

export interface ResumeResult {
  machine: {
    id: string;
    name: string;
    state: "stopped" | "starting" | "running" | "paused" | "stopping" | "suspending" | "suspended" | "resuming" | "damaged";
    reason: string | null;
    image: string | null;
    imageDigest: string | null;
    from: string | null;
    arch: "x86_64" | "aarch64";
    cpus: number;
    memoryMiB: number;
    diskBytes: number;
    firmware: "bios" | "uefi";
    accelerator: string | null;
    ports: ({
      hostAddress: string;
      hostPort: number;
      guestPort: number;
      protocol: "tcp" | "udp";
      automatic: boolean;
    })[];
    dataDisks: {
      sizeBytes: number;
    }[];
    volumes: ({
      id: string;
      role: "data" | "root" | "efi";
      readOnly: boolean;
      sizeBytes: number;
      slot: number | null;
      device: string | null;
      detaching: boolean;
    })[];
    ssh: {
      host: string;
      port: number;
      user: string;
    } | null;
    mac: string;
    autostart: boolean;
    restart: {
      /** on-failure: QEMU ended by itself, the guest panicked, or its check fails; always: also where the guest shut itself down. What its user stopped stays stopped */
      policy: "no" | "on-failure" | "always";
      attempts: number | null;
    };
    restarts: {
      /** restarts since then */
      count: number;
      /** of them, without ten good minutes between */
      inARow: number;
      lastAt: string | null;
      why: string | null;
      dueAt: string | null;
      /** not tried any more, as the policy says */
      gaveUp: boolean;
    } | null;
    check: {
      /** agent: the guest agent answers; tcp: the guest accepts a connection on `port`; http: a GET of `path` on `port` is answered with 200 to 399; command: a line for the guest's /bin/sh, run as root by the agent, ends with 0 */
      kind: "agent" | "tcp" | "http" | "command";
      port: number | null;
      path: string | null;
      command: string | null;
      intervalSeconds: number;
      timeoutSeconds: number;
      failures: number;
      startSeconds: number | null;
    } | null;
    liveness: {
      /** waiting: it has not succeeded yet since the start */
      state: "waiting" | "passing" | "failing";
      since: string;
      /** in a row, just now */
      failures: number;
      why: string | null;
    } | null;
    suspendAfterSeconds: number | null;
    idle: {
      /** when it was used last, as far as skepd has seen */
      since: string;
      busy: string | null;
      failure: string | null;
      retryAt: string | null;
    } | null;
    telnetPort: number | null;
    pid: number | null;
    ready: boolean;
    createdAt: string;
    startedAt: string | null;
    suspended: {
      /** id of the stored state: st- and 17 hexadecimal digits */
      state: string;
      /** when the guest was stopped */
      at: string;
      /** memory that the guest had touched */
      populatedMiB: number;
      /** what the state takes on disk */
      storedBytes: number;
      /** from the guest's stop until all of it was on stable storage */
      pauseMs: number;
      /** it sleeps because nobody used it: a connection to one of its ports wakes it */
      idle: boolean;
    } | null;
    directory: string;
    sockets: {
      console: string;
      control: string;
    };
  };
  how: "resumed" | "booted" | "running";
  /** until the guest ran */
  durationMs: number;
}

export interface Scope {
  bucket: string;
  access: "read" | "write";
}

export interface SnapshotCreate {
  /** lower-case letters, digits, - */
  name?: string;
}

export interface StartRequest {
  wait?: boolean;
  waitSeconds?: number;
  /** boot from the disk: of a suspended machine, and give up its memory; of one that was never started, without a template */
  cold?: boolean;
}

export interface StopRequest {
  /** SIGKILL at once */
  force?: boolean;
  /** for ACPI and the agent together */
  timeoutSeconds?: number;
}

export interface Storage {
  /** whether storaged runs */
  running: boolean;
  pid: number | null;
  version: string | null;
  startedAt: string | null;
  endpoint: string | null;
  listen: string | null;
  /** plain HTTP instead of TLS */
  http: boolean;
  domain: string | null;
  region: string;
  accessLog: boolean;
  /** the same over HTTP for this host's user alone */
  socket: string;
  problem: string | null;
  /** the CA's certificate, PEM */
  authority: string;
  /** the file that holds it on skepd's host */
  authorityPath: string;
}

export interface StorageUp {
  /** HOST:PORT; the last one, or 127.0.0.1:8443 */
  listen?: string;
  /** plain HTTP instead of TLS */
  http?: boolean;
  domain?: string | null;
  /** that signatures have to name; at first us-east-1 */
  region?: string;
  /** a line a request; default true */
  accessLog?: boolean;
}

export interface StoredObject {
  key: string;
  sizeBytes: number;
  etag: string;
  modifiedAt: string;
}

export interface SuspendRequest {
  /** run the guest's own programs for this; default true */
  hooks?: boolean;
  /** for each of them; default 30 */
  hookSeconds?: number;
}

export interface SuspendResult {
  machine: {
    id: string;
    name: string;
    state: "stopped" | "starting" | "running" | "paused" | "stopping" | "suspending" | "suspended" | "resuming" | "damaged";
    reason: string | null;
    image: string | null;
    imageDigest: string | null;
    from: string | null;
    arch: "x86_64" | "aarch64";
    cpus: number;
    memoryMiB: number;
    diskBytes: number;
    firmware: "bios" | "uefi";
    accelerator: string | null;
    ports: ({
      hostAddress: string;
      hostPort: number;
      guestPort: number;
      protocol: "tcp" | "udp";
      automatic: boolean;
    })[];
    dataDisks: {
      sizeBytes: number;
    }[];
    volumes: ({
      id: string;
      role: "data" | "root" | "efi";
      readOnly: boolean;
      sizeBytes: number;
      slot: number | null;
      device: string | null;
      detaching: boolean;
    })[];
    ssh: {
      host: string;
      port: number;
      user: string;
    } | null;
    mac: string;
    autostart: boolean;
    restart: {
      /** on-failure: QEMU ended by itself, the guest panicked, or its check fails; always: also where the guest shut itself down. What its user stopped stays stopped */
      policy: "no" | "on-failure" | "always";
      attempts: number | null;
    };
    restarts: {
      /** restarts since then */
      count: number;
      /** of them, without ten good minutes between */
      inARow: number;
      lastAt: string | null;
      why: string | null;
      dueAt: string | null;
      /** not tried any more, as the policy says */
      gaveUp: boolean;
    } | null;
    check: {
      /** agent: the guest agent answers; tcp: the guest accepts a connection on `port`; http: a GET of `path` on `port` is answered with 200 to 399; command: a line for the guest's /bin/sh, run as root by the agent, ends with 0 */
      kind: "agent" | "tcp" | "http" | "command";
      port: number | null;
      path: string | null;
      command: string | null;
      intervalSeconds: number;
      timeoutSeconds: number;
      failures: number;
      startSeconds: number | null;
    } | null;
    liveness: {
      /** waiting: it has not succeeded yet since the start */
      state: "waiting" | "passing" | "failing";
      since: string;
      /** in a row, just now */
      failures: number;
      why: string | null;
    } | null;
    suspendAfterSeconds: number | null;
    idle: {
      /** when it was used last, as far as skepd has seen */
      since: string;
      busy: string | null;
      failure: string | null;
      retryAt: string | null;
    } | null;
    telnetPort: number | null;
    pid: number | null;
    ready: boolean;
    createdAt: string;
    startedAt: string | null;
    suspended: {
      /** id of the stored state: st- and 17 hexadecimal digits */
      state: string;
      /** when the guest was stopped */
      at: string;
      /** memory that the guest had touched */
      populatedMiB: number;
      /** what the state takes on disk */
      storedBytes: number;
      /** from the guest's stop until all of it was on stable storage */
      pauseMs: number;
      /** it sleeps because nobody used it: a connection to one of its ports wakes it */
      idle: boolean;
    } | null;
    directory: string;
    sockets: {
      console: string;
      control: string;
    };
  };
  /** of all of it */
  durationMs: number;
}

export interface Suspension {
  /** id of the stored state: st- and 17 hexadecimal digits */
  state: string;
  /** when the guest was stopped */
  at: string;
  /** memory that the guest had touched */
  populatedMiB: number;
  /** what the state takes on disk */
  storedBytes: number;
  /** from the guest's stop until all of it was on stable storage */
  pauseMs: number;
  /** it sleeps because nobody used it: a connection to one of its ports wakes it */
  idle: boolean;
}

export interface Template {
  /** that of its stored state: st- and 17 hexadecimal digits */
  id: string;
  /** outdated: no machine can begin from it any more */
  state: "ready" | "outdated" | "damaged";
  /** where it is not ready */
  why: string | null;
  image: string;
  imageDigest: string;
  arch: "x86_64" | "aarch64" | null;
  cpus: number;
  memoryMiB: number;
  /** 0: no disk */
  diskBytes: number;
  /** the version that it was made with, and needs */
  qemu: string;
  createdAt: string;
  usedAt: string;
  /** memory that its guest had touched */
  populatedMiB: number;
  /** what its memory takes on disk */
  storedBytes: number;
  /** its memory is kept in /dev/shm; else it is read at its next use */
  loaded: boolean;
}

export interface TemplateBuild {
  /** image name or digest; default: this host's default */
  image?: string;
  arch?: "x86_64" | "aarch64";
  cpus?: number;
  memoryMiB?: number;
  diskBytes?: number;
}

export interface Token {
  id: string;
  name: string;
  createdAt: string;
  expiresAt: string | null;
  lastUsedAt: string | null;
}

export interface TokenCreate {
  name: string;
  expiresInSeconds?: number;
}

export interface TokenCreated {
  token: {
    id: string;
    name: string;
    createdAt: string;
    expiresAt: string | null;
    lastUsedAt: string | null;
  };
  /** shown once */
  secret: string;
}

export interface Version {
  version: string;
  apiVersion: 1;
  pid: number;
  home: string;
  startedAt: string;
  listen: string | null;
}

export interface Volume {
  /** vol- and 17 hexadecimal digits */
  id: string;
  name: string | null;
  state: "available" | "attached" | "elsewhere" | "filling" | "unreadable";
  machine: string | null;
  problem: string | null;
  sizeBytes: number;
  storedBytes: number | null;
  /** what waits on this host's disk for the store */
  walBytes: number;
  /** when a flush is answered: once this host's disk has everything, or the store */
  durability: "local" | "remote";
  compression: "none" | "zstd";
  encrypted: boolean;
  iops: number | null;
  bandwidth: number | null;
  store: {
    endpoint: string | null;
    bucket: string;
  };
  source: {
    volume: string;
    snapshot: string;
  } | null;
  owner: {
    host: string;
    since: string;
  } | null;
  snapshots: ({
    /** snap- and 17 hexadecimal digits */
    id: string;
    name: string | null;
    /** the volume's id */
    volume: string;
    volumeName: string | null;
    sizeBytes: number;
    createdAt: string;
  })[];
  createdAt: string;
  /** its write-ahead log on skepd's host */
  directory: string;
  socket: string | null;
  statistics: {
    clients: number;
    mappedBytes: number;
    chunks: number;
    extents: number;
    mapMemoryBytes: number;
    bytesWritten: number;
    bytesRead: number;
    flushes: number;
    bytesToStore: number;
    bytesFromStore: number;
  } | null;
}

export interface VolumeAdopt {
  id: string;
  /** lower-case letters, digits, - */
  name?: string;
  place?: {
    /** URL */
    endpoint?: string;
    /** default: skep-volumes */
    bucket?: string;
    /** default: us-east-1 */
    region?: string;
    accessKeyId?: string;
    /** kept sealed */
    secret?: string;
    /** a CA's certificate, PEM */
    authority?: string;
    /** false: accept any certificate */
    verify?: boolean;
  };
  /** although another host has it open: that one writes no more */
  takeOver?: boolean;
}

export interface VolumeAttach {
  machine: string;
  readOnly?: boolean;
  /** although another host has it open: that one writes no more */
  takeOver?: boolean;
}

export interface VolumeCheckReport {
  volume: string;
  findings: {
    /** manifest, map, chunk, block, wal, orphan */
    kind: string;
    /** the store's key, or the path */
    object: string;
    why: string;
    /** what of the volume cannot be read because of it */
    lost: {
      offset: number;
      length: number;
    }[];
  }[];
  chunks: number;
  blocks: number;
  bytes: number;
}

export interface VolumeClone {
  /** a volume, of which a snapshot is taken; or a snapshot: its id, or VOLUME@SNAPSHOT */
  source: string;
  /** lower-case letters, digits, - */
  name?: string;
  /** not below the source's */
  sizeBytes?: number;
  /** when a flush is answered: once this host's disk has everything, or the store */
  durability?: "local" | "remote";
  compression?: "none" | "zstd";
  iops?: number | null;
  bandwidth?: number | null;
}

export interface VolumeCreate {
  /** lower-case letters, digits, - */
  name?: string;
  /** a multiple of 4096 */
  sizeBytes: number;
  encrypted?: boolean;
  /** when a flush is answered: once this host's disk has everything, or the store */
  durability?: "local" | "remote";
  compression?: "none" | "zstd";
  iops?: number | null;
  bandwidth?: number | null;
  place?: {
    /** URL */
    endpoint?: string;
    /** default: skep-volumes */
    bucket?: string;
    /** default: us-east-1 */
    region?: string;
    accessKeyId?: string;
    /** kept sealed */
    secret?: string;
    /** a CA's certificate, PEM */
    authority?: string;
    /** false: accept any certificate */
    verify?: boolean;
  };
}

export interface VolumeDetach {
  /** although the guest uses it or holds on to it */
  force?: boolean;
}

export interface VolumeEdit {
  name?: string | null;
  /** when a flush is answered: once this host's disk has everything, or the store */
  durability?: "local" | "remote";
  compression?: "none" | "zstd";
  iops?: number | null;
  bandwidth?: number | null;
}

export interface VolumeExport {
  /** the file on skepd's host */
  path: string;
  format?: "qcow2" | "raw";
  /** replace a file that is there */
  force?: boolean;
}

export interface VolumeImport {
  /** a qcow2 or raw disk on skepd's host */
  path: string;
  /** lower-case letters, digits, - */
  name?: string;
  /** not below the disk's */
  sizeBytes?: number;
  encrypted?: boolean;
  /** when a flush is answered: once this host's disk has everything, or the store */
  durability?: "local" | "remote";
  compression?: "none" | "zstd";
  iops?: number | null;
  bandwidth?: number | null;
  place?: {
    /** URL */
    endpoint?: string;
    /** default: skep-volumes */
    bucket?: string;
    /** default: us-east-1 */
    region?: string;
    accessKeyId?: string;
    /** kept sealed */
    secret?: string;
    /** a CA's certificate, PEM */
    authority?: string;
    /** false: accept any certificate */
    verify?: boolean;
  };
}

export interface VolumePlace {
  /** URL */
  endpoint?: string;
  /** default: skep-volumes */
  bucket?: string;
  /** default: us-east-1 */
  region?: string;
  accessKeyId?: string;
  /** kept sealed */
  secret?: string;
  /** a CA's certificate, PEM */
  authority?: string;
  /** false: accept any certificate */
  verify?: boolean;
}

export interface VolumeRemove {
  /** its snapshots with it */
  snapshots?: boolean;
  /** detach it first; also where it cannot be read */
  force?: boolean;
}

export interface VolumeResize {
  /** a multiple of 4096; volumes only grow */
  sizeBytes: number;
}

export interface VolumeSnapshot {
  /** snap- and 17 hexadecimal digits */
  id: string;
  name: string | null;
  /** the volume's id */
  volume: string;
  volumeName: string | null;
  sizeBytes: number;
  createdAt: string;
}

/** Parameters and answer of each operation. */
export interface Operations {
  /** Forwards a port, on a running machine at once. Answers with all of its ports. */
  addPort: {
    params: { path: { name: string }; body: PortRequest };
    response: Port[];
  };
  /** Takes up a volume that a store has, and that another host made or this one forgot. */
  adoptVolume: {
    params: { body: VolumeAdopt };
    response: Volume;
  };
  /** Of each running machine. */
  allStats: {
    params: Record<never, never>;
    response: MachineStats[];
  };
  /** At once where the machine runs, at its next start where it is stopped. */
  attachVolume: {
    params: { path: { volume: string }; body: VolumeAttach };
    response: Job;
  };
  buildImage: {
    params: { body: ImageBuild };
    response: Job;
  };
  /** Boots an image once, out of sight, and keeps it as it stands, so that new machines of that shape begin there. The job's result is a Template: the one that is there, where there is one. */
  buildTemplate: {
    params: { body: TemplateBuild };
    response: Job;
  };
  /** Asks the job to stop and undo what it did; its events tell when that is done. */
  cancelJob: {
    params: { path: { id: string } };
    response: Job;
  };
  /** Images that can be pulled by name. */
  catalog: {
    params: Record<never, never>;
    response: CatalogEntry[];
  };
  /** Reads all that is stored of it; its result is a VolumeCheckReport. */
  checkVolume: {
    params: { path: { volume: string } };
    response: Job;
  };
  /** A new volume that shares all data with a snapshot; no data is copied. */
  cloneVolume: {
    params: { body: VolumeClone };
    response: Job;
  };
  /** Deletes what no map needs, and packs anew what is mostly dead. */
  collectVolumeGarbage: {
    params: { path: { volume: string } };
    response: Job;
  };
  createAccount: {
    params: { body: AccountCreate };
    response: Account;
  };
  createBucket: {
    params: { body: BucketCreate };
    response: Bucket;
  };
  /** An S3 access key. Good from the next request on. */
  createKey: {
    params: { body: AccessKeyCreate };
    response: AccessKeyCreated;
  };
  createMachine: {
    params: { body: MachineRequest };
    response: Job;
  };
  /** Keeps a machine as it stands: its disks, and its memory where it runs or is suspended. One that runs goes on after a short pause. The job's result is a MachineSnapshot; one that is cancelled leaves none. */
  createMachineSnapshot: {
    params: { path: { name: string }; body: MachineSnapshotCreate };
    response: Job;
  };
  /** What the volume holds at one instant; its result is a VolumeSnapshot. */
  createSnapshot: {
    params: { path: { volume: string }; body: SnapshotCreate };
    response: Job;
  };
  createToken: {
    params: { body: TokenCreate };
    response: TokenCreated;
  };
  /** An empty one. `place` says in which store; keys that it holds are kept sealed. */
  createVolume: {
    params: { body: VolumeCreate };
    response: Volume;
  };
  detachVolume: {
    params: { path: { volume: string }; body: VolumeDetach };
    response: Job;
  };
  /** Whether this host has what skep needs, and what is stored is whole; `thorough` reads all of it, however long that takes. */
  doctor: {
    params: { query?: { thorough?: boolean } };
    response: Check[];
  };
  editMachine: {
    params: { path: { name: string }; body: MachineEdit };
    response: Job;
  };
  /** Holds at once, also while it is in use. */
  editVolume: {
    params: { path: { volume: string }; body: VolumeEdit };
    response: Volume;
  };
  /** Server-sent events; each `data` is an Event. With Last-Event-ID, first what was missed; an Event of type `events.lost` says that some of it is no longer kept. */
  events: {
    params: Record<never, never>;
    response: never;
  };
  /** The volume as it is at one instant, or a snapshot of it (VOLUME@SNAPSHOT, or its id), as a disk's file. */
  exportVolume: {
    params: { path: { volume: string }; body: VolumeExport };
    response: Job;
  };
  /** Copies a machine with its memory, which goes on meanwhile. The job's result is a ForkResult; where one copy fails, or the job is cancelled, no copy is left. */
  forkMachine: {
    params: { path: { name: string }; body: ForkRequest };
    response: Job;
  };
  getImage: {
    params: { path: { ref: string }; query?: { arch?: "x86_64" | "aarch64" } };
    response: ImageDetails;
  };
  getJob: {
    params: { path: { id: string } };
    response: Job;
  };
  getMachine: {
    params: { path: { name: string } };
    response: Machine;
  };
  getMachineSnapshot: {
    params: { path: { name: string; snapshot: string } };
    response: MachineSnapshot;
  };
  /** The S3 endpoint as it is; starts nothing. */
  getStorage: {
    params: Record<never, never>;
    response: Storage;
  };
  getVolume: {
    params: { path: { volume: string } };
    response: Volume;
  };
  importImage: {
    params: { body: ImageImport };
    response: Job;
  };
  /** A new volume from a disk's file. A failed one leaves no volume. */
  importVolume: {
    params: { body: VolumeImport };
    response: Job;
  };
  /** Server-sent events; each `data` is the whole Job as it is then. Ends after the job's last state. */
  jobEvents: {
    params: { path: { id: string } };
    response: never;
  };
  /** The first one is there from the beginning. */
  listAccounts: {
    params: Record<never, never>;
    response: Account[];
  };
  /** All accounts' buckets with what they hold. */
  listBuckets: {
    params: Record<never, never>;
    response: Bucket[];
  };
  listImages: {
    params: Record<never, never>;
    response: Image[];
  };
  /** Newest first. */
  listJobs: {
    params: { query?: { state?: "running" | "succeeded" | "failed" | "cancelled"; kind?: string; subject?: string; limit?: number } };
    response: Job[];
  };
  listKeys: {
    params: Record<never, never>;
    response: AccessKey[];
  };
  /** Oldest first; `parent` makes a tree of them. */
  listMachineSnapshots: {
    params: { path: { name: string } };
    response: MachineSnapshot[];
  };
  listMachines: {
    params: { query?: { state?: "stopped" | "starting" | "running" | "paused" | "stopping" | "suspending" | "suspended" | "resuming" | "damaged"; image?: string; name?: string } };
    response: Machine[];
  };
  /** One page, in the order of the keys' bytes. */
  listObjects: {
    params: { path: { bucket: string }; query?: { prefix?: string; delimiter?: string; continuation?: string; limit?: number } };
    response: ObjectPage;
  };
  listPorts: {
    params: { path: { name: string } };
    response: Port[];
  };
  listTemplates: {
    params: Record<never, never>;
    response: Template[];
  };
  listTokens: {
    params: Record<never, never>;
    response: Token[];
  };
  /** Those that this host knows, in whichever store they are. */
  listVolumes: {
    params: Record<never, never>;
    response: Volume[];
  };
  /** WebSocket. Binary frames are the serial console's bytes, both ways. Text frames of the server are JSON: {"writable": boolean} first, {"end": reason} last. */
  machineConsole: {
    params: { path: { name: string }; query?: { mode?: "watch" | "write" | "take"; replayBytes?: number } };
    response: never;
  };
  /** WebSocket. The client's first text frame is an ExecRequest, later ones are ExecControl. The first byte of a binary frame is its channel: 0 stdin, 1 stdout, 2 stderr. Text frames of the server: {"started": {"transport"}}, {"stdinTaken": bytes} if asked for, then {"exit": status} or {"error": {code, message, hint}}. */
  machineExec: {
    params: { path: { name: string } };
    response: never;
  };
  /** The kept log as it is, then with `follow` what is added, until the client leaves. */
  machineLogs: {
    params: { path: { name: string }; query?: { source?: "console" | "qemu"; sinceMs?: number; tailLines?: number; follow?: boolean } };
    response: never;
  };
  /** The QEMU command line that starts it. */
  machineQemu: {
    params: { path: { name: string } };
    response: QemuCommand;
  };
  machineScreenshot: {
    params: { path: { name: string } };
    response: never;
  };
  machineStats: {
    params: { path: { name: string } };
    response: MachineStats;
  };
  /** WebSocket. Binary frames are the bytes of a connection to a TCP port of the guest. */
  machineTunnel: {
    params: { path: { name: string }; query: { port: number } };
    response: never;
  };
  /** For Prometheus. */
  metrics: {
    params: Record<never, never>;
    response: never;
  };
  /** A URL with which anyone may make this one S3 request until it expires, as the bucket's owner. */
  presign: {
    params: { body: PresignRequest };
    response: Presigned;
  };
  /** Removes what nobody needs: images without a name, left-overs, partial downloads; with `all` also each named image that no machine needs. */
  pruneImages: {
    params: { query?: { all?: boolean } };
    response: Pruned;
  };
  /** Removes those from which no machine can begin any more; with `all` the others, too. */
  pruneTemplates: {
    params: { query?: { all?: boolean } };
    response: Pruned;
  };
  pullImage: {
    params: { body: ImagePull };
    response: Job;
  };
  /** Refused while it has keys or buckets. By canonical id, number, name or email. */
  removeAccount: {
    params: { path: { account: string } };
    response: undefined;
  };
  /** Refused while it holds anything. */
  removeBucket: {
    params: { path: { bucket: string } };
    response: undefined;
  };
  removeImage: {
    params: { path: { ref: string }; query?: { arch?: "x86_64" | "aarch64" } };
    response: undefined;
  };
  /** The next request that it signs is refused. */
  removeKey: {
    params: { path: { id: string } };
    response: undefined;
  };
  removeMachine: {
    params: { path: { name: string }; query?: { force?: boolean; keepVolumes?: boolean } };
    response: Job;
  };
  /** Those that were made after it stay as they are. */
  removeMachineSnapshot: {
    params: { path: { name: string; snapshot: string } };
    response: Job;
  };
  /** Removes objects, or hides them behind delete markers where the bucket keeps versions. */
  removeObjects: {
    params: { path: { bucket: string }; body: ObjectRemoval };
    response: undefined;
  };
  removePort: {
    params: { path: { name: string; hostPort: number }; query?: { protocol?: "tcp" | "udp" } };
    response: Port[];
  };
  /** Refused while a clone needs it. */
  removeSnapshot: {
    params: { path: { volume: string; snapshot: string } };
    response: undefined;
  };
  /** Machines that began from it stay as they are. Answers with the ids of those removed. */
  removeTemplate: {
    params: { path: { ref: string } };
    response: string[];
  };
  removeToken: {
    params: { path: { id: string } };
    response: undefined;
  };
  removeVolume: {
    params: { path: { volume: string }; query?: { snapshots?: boolean; force?: boolean } };
    response: Job;
  };
  /** Volumes grow, also while a machine runs on them: its guest is told. */
  resizeVolume: {
    params: { path: { volume: string }; body: VolumeResize };
    response: Job;
  };
  restartMachine: {
    params: { path: { name: string }; body: {
        wait?: boolean;
        waitSeconds?: number;
        /** SIGKILL at once */
        force?: boolean;
        /** for ACPI and the agent together */
        timeoutSeconds?: number;
      } };
    response: Job;
  };
  /** Sets a machine back to a snapshot of it; what it is now is kept as another one, unless `discard`. The job's result is a MachineSnapshotRestored. */
  restoreMachineSnapshot: {
    params: { path: { name: string; snapshot: string }; body: MachineSnapshotRestore };
    response: Job;
  };
  /** Lets a suspended machine go on where it was; the job's result is a ResumeResult. It boots from its disk only where `cold` asks for that. */
  resumeMachine: {
    params: { path: { name: string }; body: ResumeRequest };
    response: Job;
  };
  /** Listens on TCP with TLS and tokens, now and after later starts; null ends it. */
  setListen: {
    params: { body: Listen };
    response: Version;
  };
  /** Ends skepd; running jobs are cancelled, machines run on. */
  shutdown: {
    params: Record<never, never>;
    response: undefined;
  };
  /** A file for ssh's Include: hosts `NAME.skep`. */
  sshConfig: {
    params: Record<never, never>;
    response: never;
  };
  startMachine: {
    params: { path: { name: string }; body: StartRequest };
    response: Job;
  };
  stopMachine: {
    params: { path: { name: string }; body: StopRequest };
    response: Job;
  };
  /** Ends the S3 endpoint once what is under way has ended; nothing stored is touched. */
  storageDown: {
    params: Record<never, never>;
    response: Storage;
  };
  /** Serves S3 on TCP, now and after later starts; what is not given stays as it was. */
  storageUp: {
    params: { body: StorageUp };
    response: Storage;
  };
  /** Runs the guest's hooks, writes memory and device state to disk, and ends QEMU. The job's result is a SuspendResult; one that is cancelled leaves the machine running. */
  suspendMachine: {
    params: { path: { name: string }; body: SuspendRequest };
    response: Job;
  };
  /** Reads all of the image's files again and compares their digests. */
  verifyImage: {
    params: { path: { ref: string } };
    response: Job;
  };
  version: {
    params: Record<never, never>;
    response: Version;
  };
}

export const operations = {
  addPort: { method: "POST", path: "/v1/machines/{name}/ports", kind: "json" },
  adoptVolume: { method: "POST", path: "/v1/volumes/adopt", kind: "json" },
  allStats: { method: "GET", path: "/v1/stats", kind: "json" },
  attachVolume: { method: "POST", path: "/v1/volumes/{volume}/attach", kind: "json" },
  buildImage: { method: "POST", path: "/v1/images/build", kind: "json" },
  buildTemplate: { method: "POST", path: "/v1/templates", kind: "json" },
  cancelJob: { method: "POST", path: "/v1/jobs/{id}/cancel", kind: "json" },
  catalog: { method: "GET", path: "/v1/catalog", kind: "json" },
  checkVolume: { method: "POST", path: "/v1/volumes/{volume}/check", kind: "json" },
  cloneVolume: { method: "POST", path: "/v1/volumes/clone", kind: "json" },
  collectVolumeGarbage: { method: "POST", path: "/v1/volumes/{volume}/gc", kind: "json" },
  createAccount: { method: "POST", path: "/v1/accounts", kind: "json" },
  createBucket: { method: "POST", path: "/v1/buckets", kind: "json" },
  createKey: { method: "POST", path: "/v1/keys", kind: "json" },
  createMachine: { method: "POST", path: "/v1/machines", kind: "json" },
  createMachineSnapshot: { method: "POST", path: "/v1/machines/{name}/snapshots", kind: "json" },
  createSnapshot: { method: "POST", path: "/v1/volumes/{volume}/snapshots", kind: "json" },
  createToken: { method: "POST", path: "/v1/tokens", kind: "json" },
  createVolume: { method: "POST", path: "/v1/volumes", kind: "json" },
  detachVolume: { method: "POST", path: "/v1/volumes/{volume}/detach", kind: "json" },
  doctor: { method: "GET", path: "/v1/doctor", kind: "json" },
  editMachine: { method: "PATCH", path: "/v1/machines/{name}", kind: "json" },
  editVolume: { method: "PATCH", path: "/v1/volumes/{volume}", kind: "json" },
  events: { method: "GET", path: "/v1/events", kind: "events" },
  exportVolume: { method: "POST", path: "/v1/volumes/{volume}/export", kind: "json" },
  forkMachine: { method: "POST", path: "/v1/machines/{name}/fork", kind: "json" },
  getImage: { method: "GET", path: "/v1/images/{ref}", kind: "json" },
  getJob: { method: "GET", path: "/v1/jobs/{id}", kind: "json" },
  getMachine: { method: "GET", path: "/v1/machines/{name}", kind: "json" },
  getMachineSnapshot: { method: "GET", path: "/v1/machines/{name}/snapshots/{snapshot}", kind: "json" },
  getStorage: { method: "GET", path: "/v1/storage", kind: "json" },
  getVolume: { method: "GET", path: "/v1/volumes/{volume}", kind: "json" },
  importImage: { method: "POST", path: "/v1/images/import", kind: "json" },
  importVolume: { method: "POST", path: "/v1/volumes/import", kind: "json" },
  jobEvents: { method: "GET", path: "/v1/jobs/{id}/events", kind: "events" },
  listAccounts: { method: "GET", path: "/v1/accounts", kind: "json" },
  listBuckets: { method: "GET", path: "/v1/buckets", kind: "json" },
  listImages: { method: "GET", path: "/v1/images", kind: "json" },
  listJobs: { method: "GET", path: "/v1/jobs", kind: "json" },
  listKeys: { method: "GET", path: "/v1/keys", kind: "json" },
  listMachineSnapshots: { method: "GET", path: "/v1/machines/{name}/snapshots", kind: "json" },
  listMachines: { method: "GET", path: "/v1/machines", kind: "json" },
  listObjects: { method: "GET", path: "/v1/buckets/{bucket}/objects", kind: "json" },
  listPorts: { method: "GET", path: "/v1/machines/{name}/ports", kind: "json" },
  listTemplates: { method: "GET", path: "/v1/templates", kind: "json" },
  listTokens: { method: "GET", path: "/v1/tokens", kind: "json" },
  listVolumes: { method: "GET", path: "/v1/volumes", kind: "json" },
  machineConsole: { method: "GET", path: "/v1/machines/{name}/console", kind: "socket" },
  machineExec: { method: "GET", path: "/v1/machines/{name}/exec", kind: "socket" },
  machineLogs: { method: "GET", path: "/v1/machines/{name}/logs", kind: "raw" },
  machineQemu: { method: "GET", path: "/v1/machines/{name}/qemu", kind: "json" },
  machineScreenshot: { method: "GET", path: "/v1/machines/{name}/screenshot", kind: "raw" },
  machineStats: { method: "GET", path: "/v1/machines/{name}/stats", kind: "json" },
  machineTunnel: { method: "GET", path: "/v1/machines/{name}/tunnel", kind: "socket" },
  metrics: { method: "GET", path: "/metrics", kind: "raw" },
  presign: { method: "POST", path: "/v1/presign", kind: "json" },
  pruneImages: { method: "POST", path: "/v1/images/prune", kind: "json" },
  pruneTemplates: { method: "POST", path: "/v1/templates/prune", kind: "json" },
  pullImage: { method: "POST", path: "/v1/images/pull", kind: "json" },
  removeAccount: { method: "DELETE", path: "/v1/accounts/{account}", kind: "json" },
  removeBucket: { method: "DELETE", path: "/v1/buckets/{bucket}", kind: "json" },
  removeImage: { method: "DELETE", path: "/v1/images/{ref}", kind: "json" },
  removeKey: { method: "DELETE", path: "/v1/keys/{id}", kind: "json" },
  removeMachine: { method: "DELETE", path: "/v1/machines/{name}", kind: "json" },
  removeMachineSnapshot: { method: "DELETE", path: "/v1/machines/{name}/snapshots/{snapshot}", kind: "json" },
  removeObjects: { method: "POST", path: "/v1/buckets/{bucket}/remove", kind: "json" },
  removePort: { method: "DELETE", path: "/v1/machines/{name}/ports/{hostPort}", kind: "json" },
  removeSnapshot: { method: "DELETE", path: "/v1/volumes/{volume}/snapshots/{snapshot}", kind: "json" },
  removeTemplate: { method: "DELETE", path: "/v1/templates/{ref}", kind: "json" },
  removeToken: { method: "DELETE", path: "/v1/tokens/{id}", kind: "json" },
  removeVolume: { method: "DELETE", path: "/v1/volumes/{volume}", kind: "json" },
  resizeVolume: { method: "POST", path: "/v1/volumes/{volume}/resize", kind: "json" },
  restartMachine: { method: "POST", path: "/v1/machines/{name}/restart", kind: "json" },
  restoreMachineSnapshot: { method: "POST", path: "/v1/machines/{name}/snapshots/{snapshot}/restore", kind: "json" },
  resumeMachine: { method: "POST", path: "/v1/machines/{name}/resume", kind: "json" },
  setListen: { method: "PUT", path: "/v1/listen", kind: "json" },
  shutdown: { method: "POST", path: "/v1/shutdown", kind: "json" },
  sshConfig: { method: "GET", path: "/v1/ssh-config", kind: "raw" },
  startMachine: { method: "POST", path: "/v1/machines/{name}/start", kind: "json" },
  stopMachine: { method: "POST", path: "/v1/machines/{name}/stop", kind: "json" },
  storageDown: { method: "POST", path: "/v1/storage/down", kind: "json" },
  storageUp: { method: "POST", path: "/v1/storage/up", kind: "json" },
  suspendMachine: { method: "POST", path: "/v1/machines/{name}/suspend", kind: "json" },
  verifyImage: { method: "POST", path: "/v1/images/{ref}/verify", kind: "json" },
  version: { method: "GET", path: "/v1/version", kind: "json" },
} as const;

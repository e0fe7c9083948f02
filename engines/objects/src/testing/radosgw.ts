import { type ChildProcess, spawn } from "node:child_process";
import { randomBytes, randomUUID } from "node:crypto";
import { mkdir, mkdtemp, open, readFile, rm, writeFile } from "node:fs/promises";
import { get } from "node:http";
import { createServer } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { CreateBucketCommand, S3Client } from "@aws-sdk/client-s3";
import { findCommand, run, Undo } from "@skep/base";

/**
 * Ceph's S3 server, which no one here wrote: one monitor, one OSD on a file, one gateway, in a directory
 * of their own, as plain processes that end with us. Ceph 16, as Debian 12 has it.
 */
export interface Radosgw extends AsyncDisposable {
  endpoint: string;
  credentials: { accessKeyId: string; secret: string };
  region: string;
  createBucket(name: string): Promise<void>;
  /** What the processes printed last, for failures. */
  output(): Promise<string>;
}

export interface RadosgwOptions {
  /** Where its own directory is made; decides the disk. */
  parent?: string;
  /** Of the OSD's file, which is sparse. */
  blockBytes?: number;
  /** For what it takes to start. */
  timeoutMs?: number;
}

const commands = ["ceph", "ceph-mon", "ceph-osd", "ceph-authtool", "monmaptool", "radosgw", "radosgw-admin"];

/** The commands that are missing; empty where it can be started. */
export async function missingForRadosgw(): Promise<string[]> {
  const found = await Promise.all([...commands, "setpriv"].map(findCommand));
  return [...commands, "setpriv"].filter((_, at) => found[at] === undefined);
}

export async function startRadosgw(options: RadosgwOptions = {}): Promise<Radosgw> {
  const { parent = "/tmp", blockBytes = 8 * 1024 ** 3, timeoutMs = 120_000 } = options;
  await using undo = new Undo();
  const directory = await mkdtemp(join(parent, "skep-radosgw-"));
  undo.push(() => rm(directory, { recursive: true, force: true, maxRetries: 3 }));
  const signal = AbortSignal.timeout(timeoutMs);
  const [monitorPort, gatewayPort] = await freePorts(2);
  const fsid = randomUUID();
  const configuration = join(directory, "ceph.conf");
  await writeFile(
    configuration,
    configurationText({ directory, fsid, blockBytes, monitorPort: monitorPort!, gatewayPort: gatewayPort! }),
  );
  for (const folder of ["mon", "osd", "rgw"]) await mkdir(join(directory, folder));
  const env = { ...process.env, CEPH_CONF: configuration, LC_ALL: "C.UTF-8" };
  const ceph = (command: string, ...args: string[]) => run(command, args, { env, signal, cwd: directory });
  const started: ChildProcess[] = [];
  const start = async (command: string, ...args: string[]) => {
    const output = await open(join(directory, `${command}.out`), "w");
    // The kernel ends them when we die, however that comes.
    const child = spawn("setpriv", ["--pdeathsig", "KILL", command, ...args, "-f"], {
      env,
      cwd: directory,
      stdio: ["ignore", output.fd, output.fd],
    });
    await output.close();
    started.push(child);
    undo.push(() => end(child));
  };

  await writeFile(join(directory, "keyring"), await keyring(ceph), { mode: 0o600 });
  const address = `[v2:127.0.0.1:${monitorPort}/0]`;
  await ceph("monmaptool", "--create", "--fsid", fsid, "--addv", "a", address, "monmap");
  await ceph("ceph-mon", "-i", "a", "--mkfs", "--monmap", "monmap", "--keyring", "keyring");
  await start("ceph-mon", "-i", "a");
  const osd = randomUUID();
  await ceph("ceph", "--connect-timeout", "60", "osd", "new", osd);
  await ceph("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", osd);
  await start("ceph-osd", "-i", "0");
  const credentials = { accessKeyId: "radosgw-key", secret: randomBytes(15).toString("hex") };
  const user = ["user", "create", "--uid", "skep", "--display-name", "skep"];
  const key = ["--access-key", credentials.accessKeyId, "--secret", credentials.secret];
  await ceph("radosgw-admin", ...user, ...key);
  await start("radosgw", "-n", "client.admin");
  const endpoint = `http://127.0.0.1:${gatewayPort}`;
  const output = async () => {
    const texts = ["ceph-mon", "ceph-osd", "radosgw"].map((name) =>
      readFile(join(directory, `${name}.out`), "utf8").catch(() => ""),
    );
    return (await Promise.all(texts)).join("").slice(-4000);
  };
  await answers(endpoint, started.at(-1)!, signal, output);
  const region = "us-east-1";
  undo.keep();
  return {
    endpoint,
    credentials,
    region,
    output,
    createBucket: (name) => createBucket(endpoint, region, credentials, name),
    [Symbol.asyncDispose]: async () => {
      for (const child of started.reverse()) await end(child);
      await rm(directory, { recursive: true, force: true, maxRetries: 3 });
    },
  };
}

interface Setting {
  directory: string;
  fsid: string;
  blockBytes: number;
  monitorPort: number;
  gatewayPort: number;
}

function configurationText({ directory, fsid, blockBytes, monitorPort, gatewayPort }: Setting): string {
  const values: Record<string, string | number> = {
    fsid,
    mon_initial_members: "a",
    mon_host: `[v2:127.0.0.1:${monitorPort}/0]`,
    auth_allow_insecure_global_id_reclaim: "false",
    keyring: join(directory, "keyring"),
    run_dir: directory,
    admin_socket: join(directory, "$name.asok"),
    log_file: join(directory, "$name.log"),
    pid_file: "",
    public_addr: "127.0.0.1",
    cluster_addr: "127.0.0.1",
    ms_bind_ipv6: "false",
    mon_data: join(directory, "mon"),
    // This host's disk may be fuller than Ceph likes.
    mon_data_avail_crit: 1,
    mon_allow_pool_size_one: "true",
    mon_max_pg_per_osd: 1000,
    osd_data: join(directory, "osd"),
    osd_objectstore: "bluestore",
    bluestore_block_size: blockBytes,
    osd_pool_default_size: 1,
    osd_pool_default_min_size: 1,
    osd_pool_default_pg_num: 8,
    osd_pool_default_pgp_num: 8,
    osd_pool_default_pg_autoscale_mode: "off",
    osd_crush_chooseleaf_type: 0,
    rgw_data: join(directory, "rgw"),
    rgw_frontends: `beast endpoint=127.0.0.1:${gatewayPort} tcp_nodelay=1`,
  };
  const lines = Object.entries(values).map(([name, value]) => `${name} = ${value}`);
  return `[global]\n${lines.join("\n")}\n`;
}

/** radosgw refuses clusters without authentication, so there is one. */
async function keyring(ceph: (command: string, ...args: string[]) => Promise<{ stdout: string }>) {
  const rights: Record<string, string[]> = {
    "mon.": ['mon = "allow *"'],
    "client.admin": ['mon = "allow *"', 'osd = "allow *"', 'mgr = "allow *"'],
    "osd.0": ['mon = "allow profile osd"', 'osd = "allow *"'],
  };
  const sections: string[] = [];
  for (const [name, caps] of Object.entries(rights)) {
    const { stdout } = await ceph("ceph-authtool", "--gen-print-key");
    sections.push([`[${name}]`, `key = ${stdout.trim()}`, ...caps.map((one) => `caps ${one}`)].join("\n"));
  }
  return `${sections.join("\n")}\n`;
}

async function freePorts(count: number): Promise<number[]> {
  const servers = Array.from({ length: count }, () => createServer());
  const ports = await Promise.all(
    servers.map(async (server) => {
      await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
      return (server.address() as { port: number }).port;
    }),
  );
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  return ports;
}

async function answers(
  endpoint: string,
  child: ChildProcess,
  signal: AbortSignal,
  output: () => Promise<string>,
): Promise<void> {
  for (;;) {
    if (child.exitCode !== null) throw new Error(`radosgw ended: ${await output()}`);
    const isUp = await new Promise<boolean>((resolve) => {
      get(endpoint, (response) => {
        response.resume();
        resolve(true);
      }).once("error", () => resolve(false));
    });
    if (isUp) return;
    if (signal.aborted) throw new Error(`radosgw does not answer: ${await output()}`);
    await sleep(100);
  }
}

async function createBucket(
  endpoint: string,
  region: string,
  { accessKeyId, secret }: Radosgw["credentials"],
  name: string,
): Promise<void> {
  const client = new S3Client({
    endpoint,
    region,
    forcePathStyle: true,
    credentials: { accessKeyId, secretAccessKey: secret },
  });
  try {
    await client.send(new CreateBucketCommand({ Bucket: name }));
  } finally {
    client.destroy();
  }
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = new Promise((resolve) => child.once("exit", resolve));
  child.kill("SIGTERM");
  const killer = setTimeout(() => child.kill("SIGKILL"), 10_000);
  await ended;
  clearTimeout(killer);
}

import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { connect } from "node:net";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { after, before, describe, it } from "node:test";
import { promisify } from "node:util";
import { NbdClient } from "./client.ts";
import { listExports } from "./client-handshake.ts";
import { encodeClientFlags, encodeOption } from "./handshake-codec.ts";
import { MemoryDevice } from "./memory.ts";
import { Option } from "./protocol.ts";
import { NbdServer } from "./server.ts";
import type { TlsIdentity } from "./tls.ts";

const MiB = 1024 * 1024;
const execute = promisify(execFile);
let directory: string;
let server: NbdServer;
let disk: MemoryDevice;
let uri: string;
const failures: unknown[] = [];

/** What a program printed. Fails with its complaint. */
async function run(program: string, ...args: string[]): Promise<string> {
  // nbdsh looks for a python3, and the system's is the one that has libnbd.
  const env = { ...process.env, PATH: `/usr/bin:${process.env.PATH}` };
  const { stdout } = await execute(program, args, { timeout: 60_000, maxBuffer: 64 * MiB, env });
  return stdout;
}

before(async () => {
  directory = await mkdtemp("/tmp/skep-nbd-foreign-");
  server = new NbdServer({ onError: (error, { command }) => command !== undefined && failures.push(error) });
  disk = new MemoryDevice({ sizeBytes: 64 * MiB });
  server.add({ name: "disk", device: disk, description: "a disk for all" });
  server.add({ name: "locked", device: disk, readOnly: true });
  server.add({ name: "target", device: new MemoryDevice({ sizeBytes: 64 * MiB }) });
  await server.listen({ path: join(directory, "nbd.sock") });
  uri = `nbd+unix:///disk?socket=${directory}/nbd.sock`;
  await using client = await NbdClient.connect({ uri });
  for (const [index, at] of [0, 5, 40, 63].entries())
    await client.write(at * MiB, Buffer.alloc(MiB, index + 1));
});
after(async () => {
  await server?.close();
  await rm(directory, { recursive: true, force: true });
  assert.deepEqual(failures, []);
});

const holes = [
  [0, 1, false],
  [1, 4, true],
  [5, 1, false],
  [6, 34, true],
  [40, 1, false],
  [41, 22, true],
  [63, 1, false],
];

describe("NbdServer and the clients of others", () => {
  it("nbdinfo: sizes, flags, exports, and where the data is", async () => {
    const { exports } = JSON.parse(await run("nbdinfo", "--json", uri)) as {
      exports: Record<string, unknown>[];
    };
    const shown = exports[0] as Record<string, unknown>;
    assert.equal(shown["export-size"], 64 * MiB);
    assert.equal(shown.description, "a disk for all");
    for (const can of ["can_cache", "can_df", "can_fast_zero", "can_flush", "can_fua", "can_multi_conn"]) {
      assert.equal(shown[can], true, can);
    }
    assert.equal(shown.is_read_only, false);
    await run("nbdinfo", "--is", "read-only", uri.replace("/disk", "/locked"));
    assert.match(await run("nbdinfo", "--list", uri), /"disk".*"locked".*"target"/s);
    const map = JSON.parse(await run("nbdinfo", "--map", "--json", uri)) as Record<string, number>[];
    assert.deepEqual(
      map.map(({ offset, length, type }) => [offset! / MiB, length! / MiB, type === 3]),
      holes,
    );
  });

  it("nbdcopy: several connections, sparse, to and from", async () => {
    const target = uri.replace("/disk", "/target");
    await run("nbdcopy", "--connections=4", uri, target);
    await run("qemu-img", "compare", "-f", "raw", "-F", "raw", uri, target);
    const file = join(directory, "copy.raw");
    await run("nbdcopy", "--flush", uri, file);
    await using client = await NbdClient.connect({ uri });
    const bytes = await readFile(file);
    for (const at of [0, 32]) {
      assert.ok((await client.read(at * MiB, 32 * MiB)).equals(bytes.subarray(at * MiB, (at + 32) * MiB)));
    }
  });

  it("nbdsh: every command and flag, with and without structured replies, and refusals by name", async () => {
    const script = `
import errno, os, sys
for structured in (True, False):
    h = nbd.NBD()
    h.set_strict_mode(0)
    h.set_request_structured_replies(structured)
    h.add_meta_context("base:allocation")
    h.set_export_name("target")
    h.connect_unix(sys.argv[1])
    assert h.get_structured_replies_negotiated() == structured
    data = os.urandom(100000)
    h.pwrite(data, 12345, nbd.CMD_FLAG_FUA)
    assert h.pread(100000, 12345) == data
    h.zero(50000, 20000, nbd.CMD_FLAG_NO_HOLE)
    h.zero(65536, 10 * 65536, nbd.CMD_FLAG_FAST_ZERO)
    h.trim(65536, 20 * 65536)
    h.cache(4096, 0)
    h.flush()
    assert h.pread(7655, 12345) == data[:7655]
    assert h.pread(50000, 20000) == bytes(50000)
    if structured:
        found = []
        h.pread_structured(3 * 65536, 9 * 65536, lambda b, o, s, e: found.append((o // 65536, len(b), s)))
        assert found == [(9, 65536, nbd.READ_DATA), (10, 65536, nbd.READ_HOLE), (11, 65536, nbd.READ_DATA)], found
        assert len(h.pread_structured(65536, 0, lambda b, o, s, e: None, nbd.CMD_FLAG_DF)) == 65536
        entries = []
        h.block_status(64 * 1024 * 1024, 0, lambda c, o, e, err: entries.extend(e), nbd.CMD_FLAG_REQ_ONE)
        assert len(entries) == 2, entries
    for call, wanted in (
        (lambda: h.pread(512, h.get_size()), errno.EINVAL),
        (lambda: h.pwrite(b"x" * 512, h.get_size()), errno.ENOSPC),
        (lambda: h.zero(65536, 0, nbd.CMD_FLAG_FAST_ZERO | nbd.CMD_FLAG_NO_HOLE), errno.ENOTSUP),
        (lambda: h.trim(512, h.get_size()), errno.EINVAL),
    ):
        try:
            call()
            raise AssertionError("no error")
        except nbd.Error as e:
            assert e.errnum == wanted, (e.errnum, wanted)
    handles = [h.aio_pread(nbd.Buffer(4096), i * 4096) for i in range(64)]
    while handles:
        h.poll(-1)
        handles = [c for c in handles if not h.aio_command_completed(c)]
    h.shutdown()
print("well")
`;
    const file = join(directory, "all.py");
    await writeFile(file, script);
    // nbdsh itself has no script arguments.
    const code = `import sys; sys.argv = ["all", "${directory}/nbd.sock"]; import nbd; exec(open("${file}").read())`;
    assert.match(await run("nbdsh", "-c", code), /well/);
  });

  it("qemu-img and qemu-io: info, map, convert, compare, bench, write, zero, discard", async () => {
    const info = JSON.parse(await run("qemu-img", "info", "--output=json", "-f", "raw", uri)) as {
      "virtual-size": number;
    };
    assert.equal(info["virtual-size"], 64 * MiB);
    const map = JSON.parse(await run("qemu-img", "map", "--output=json", "-f", "raw", uri)) as {
      start: number;
      length: number;
      zero: boolean;
    }[];
    assert.deepEqual(
      map.map(({ start, length, zero }) => [start / MiB, length / MiB, zero]),
      holes,
    );
    const copy = join(directory, "copy.qcow2");
    await run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", uri, copy);
    assert.match(await run("qemu-img", "compare", "-f", "raw", "-F", "qcow2", uri, copy), /identical/);
    const target = uri.replace("/disk", "/target");
    await run("qemu-img", "convert", "-n", "-W", "-f", "qcow2", "-O", "raw", copy, target);
    assert.match(await run("qemu-img", "compare", "-f", "raw", "-F", "raw", uri, target), /identical/);
    const out = await run(
      ...(["qemu-io", "-f", "raw"] as const),
      ...[
        "write -P 0x11 512 70000",
        "write -f -P 0x22 1M 1M",
        "write -z -u 2M 1M",
        "write -z 3M 64k",
        "discard 4M 1M",
      ]
        .concat(["aio_write -P 0x33 8M 64k", "aio_write -P 0x34 9M 64k", "aio_flush", "flush"])
        .concat(["read -P 0x11 512 70000", "read -P 0x22 1M 1M", "read -P 0 2M 1M", "read -P 0x34 9M 64k"])
        .flatMap((command) => ["-c", command]),
      target,
    );
    assert.doesNotMatch(out, /failed/);
    await run("qemu-img", "bench", "-f", "raw", "-c", "2000", "-d", "16", "-s", "4k", "-w", target);
    await assert.rejects(run("qemu-io", "-f", "raw", "-c", "write 0 512", uri.replace("/disk", "/locked")));
  });

  it("nbdkit's nbd plugin: through a server of others and back to our client", async () => {
    const path = join(directory, "nbdkit.sock");
    const program = spawn("nbdkit", ["-f", "-U", path, "nbd", `uri=${uri}`], { stdio: "ignore" });
    try {
      const through = `nbd+unix:///?socket=${path}`;
      let client: NbdClient | undefined;
      while (client === undefined) {
        assert.equal(program.exitCode, null, "nbdkit ended");
        client = await NbdClient.connect({ uri: through }).catch(() => undefined);
      }
      assert.equal(
        (await client.read(5 * MiB, MiB)).every((byte) => byte === 2),
        true,
      );
      assert.equal(
        (await client.blockStatus(MiB, 4 * MiB)).every(({ hole }) => hole),
        true,
      );
      await client.write(60 * MiB, Buffer.from("through nbdkit"), { fua: true });
      await client.writeZeroes(60 * MiB, 65536);
      await client.flush();
      await client.close();
    } finally {
      program.kill("SIGKILL");
    }
  });

  it("fio's nbd engine: verified random writes", async () => {
    const out = await run(
      ...(["fio", "--name=verify", "--ioengine=nbd", `--uri=${uri.replace("/disk", "/target")}`] as const),
      ...["--rw=randwrite", "--bs=4k", "--size=8M", "--iodepth=32", "--verify=crc32c", "--randseed=7"],
    );
    assert.match(out, /err= 0/);
  });

  it("QEMU: a disk grows while it is in use, once the client has connected again", async () => {
    const device = new MemoryDevice({ sizeBytes: 16 * MiB });
    server.add({ name: "growing", device });
    const blockdev = {
      "node-name": "d",
      driver: "nbd",
      export: "growing",
      "reconnect-delay": 60,
      server: { type: "unix", path: `${directory}/nbd.sock` },
    };
    const qemu = spawn(
      "qemu-system-x86_64",
      [
        "-machine",
        "none",
        "-nodefaults",
        "-display",
        "none",
        "-qmp",
        "stdio",
        "-blockdev",
        JSON.stringify(blockdev),
      ],
      { stdio: ["pipe", "pipe", "inherit"] },
    );
    const lines = createInterface({ input: qemu.stdout });
    try {
      const answers = lines[Symbol.asyncIterator]();
      await answers.next();
      const printed: string[] = [];
      const ask = async (execute: string, args: object = {}) => {
        qemu.stdin.write(`${JSON.stringify({ execute, arguments: args })}\n`);
        for (;;) {
          const { value } = (await answers.next()) as { value: string };
          if (!value.startsWith("{")) {
            printed.push(value);
            continue;
          }
          const answer = JSON.parse(value) as { return?: unknown; error?: { desc: string } };
          if ("return" in answer) return answer.return;
          if (answer.error !== undefined) throw new Error(answer.error.desc);
        }
      };
      const sizeSeen = async () => {
        const nodes = (await ask("query-named-block-nodes")) as { image: { "virtual-size": number } }[];
        return nodes[0]?.image["virtual-size"];
      };
      await ask("qmp_capabilities");
      assert.equal(await sizeSeen(), 16 * MiB);
      device.resize(32 * MiB);
      await assert.rejects(ask("block_resize", { "node-name": "d", size: 32 * MiB }), /grow/);
      await server.reconnect("growing");
      // Any request lets QEMU notice; it is repeated on the new connection.
      const io = (line: string) => ask("human-monitor-command", { "command-line": `qemu-io d "${line}"` });
      await io("read 0 512");
      await ask("block_resize", { "node-name": "d", size: 32 * MiB });
      assert.equal(await sizeSeen(), 32 * MiB);
      await io("write -P 5 24M 64k");
      assert.doesNotMatch(printed.join(), /failed|rror/);
      await using client = await NbdClient.connect({ uri: uri.replace("/disk", "/growing") });
      assert.equal((await client.read(24 * MiB, 1))[0], 5);
    } finally {
      qemu.kill("SIGKILL");
    }
  });
});

describe("NbdServer in TLS", () => {
  let identity: TlsIdentity;
  let stranger: TlsIdentity;
  let port: number;

  /** A CA and certificates of it, in files as GnuTLS's users want them, by the system's openssl. */
  async function certificates(name: string): Promise<TlsIdentity> {
    const folder = join(directory, name);
    await mkdir(folder);
    const file = (of: string) => join(folder, of);
    const newKey = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
    await run(
      ...(["openssl", "req", "-x509", ...newKey, "-days", "2", "-subj", "/CN=ca"] as [string, ...string[]]),
      ...["-keyout", file("ca-key.pem"), "-out", file("ca-cert.pem")],
      ...["-addext", "keyUsage=critical,keyCertSign"],
    );
    for (const side of ["server", "client"]) {
      await writeFile(
        file(`${side}.ext`),
        `subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=${side}Auth\nkeyUsage=digitalSignature\n`,
      );
      await run(
        ...(["openssl", "req", ...newKey, "-subj", `/CN=${side}`] as [string, ...string[]]),
        ...["-keyout", file(`${side}-key.pem`), "-out", file(`${side}.csr`)],
      );
      await run(
        ...(["openssl", "x509", "-req", "-days", "2", "-in", file(`${side}.csr`)] as [string, ...string[]]),
        ...["-CA", file("ca-cert.pem"), "-CAkey", file("ca-key.pem"), "-CAcreateserial"],
        ...["-extfile", file(`${side}.ext`), "-out", file(`${side}-cert.pem`)],
      );
    }
    const read = (of: string) => readFile(file(of), "utf8");
    return {
      certificate: await read("server-cert.pem"),
      key: await read("server-key.pem"),
      authority: await read("ca-cert.pem"),
    };
  }

  const clientOf = async (name: string) => ({
    certificate: await readFile(join(directory, name, "client-cert.pem"), "utf8"),
    key: await readFile(join(directory, name, "client-key.pem"), "utf8"),
    authority: identity.authority,
  });

  before(async () => {
    identity = await certificates("ours");
    stranger = await certificates("theirs");
    ({ port } = (await server.listen({ host: "127.0.0.1", port: 0, tls: () => identity })) as {
      port: number;
    });
  });

  it("serves our client, and only with a certificate of the CA, over TLS", async () => {
    const address = `nbds://localhost:${port}/disk`;
    const tls = await clientOf("ours");
    await using client = await NbdClient.connect({ uri: address, tls });
    await client.write(10 * MiB, Buffer.alloc(3 * MiB, 9));
    assert.ok((await client.read(10 * MiB, 3 * MiB)).every((byte) => byte === 9));
    await client.trim(10 * MiB, 3 * MiB);
    assert.equal((await listExports({ uri: address, tls })).length >= 3, true);
    await assert.rejects(NbdClient.connect({ uri: `nbd://localhost:${port}/disk` }), {
      code: "NBD_TLS_REQUIRED",
    });
    const { authority } = tls;
    const none = NbdClient.connect({ uri: address, tls: { authority } });
    await assert.rejects(none, (error: { code: string }) => error.code.startsWith("NBD_"));
    const wrong = NbdClient.connect({ uri: address, tls: await clientOf("theirs") });
    await assert.rejects(wrong, (error: { code: string }) => error.code.startsWith("NBD_"));
    const other = NbdClient.connect({ uri: address, tls: { ...tls, authority: stranger.authority } });
    await assert.rejects(other, { code: "NBD_TLS_FAILED" });
    await assert.rejects(NbdClient.connect({ uri: uri.replace("nbd+", "nbds+"), tls }), {
      code: "NBD_TLS_FAILED",
    });
  });

  it("takes nothing for said in TLS that came before it", async () => {
    const socket = connect(port, "127.0.0.1");
    const flags = encodeClientFlags({ fixedNewstyle: true, noZeroes: true });
    socket.write(Buffer.concat([flags, encodeOption(Option.startTls), encodeOption(Option.list)]));
    let got = 0;
    socket.on("data", (bytes) => {
      got += bytes.length;
    });
    await new Promise((resolve) => socket.on("error", () => {}).once("close", resolve));
    assert.equal(got, 18, "only the greeting, and no answer");
  });

  it("serves libnbd and QEMU over TLS", async () => {
    const folder = join(directory, "ours");
    const script = `
import nbd, sys
h = nbd.NBD()
h.set_tls(nbd.TLS_REQUIRE)
h.set_tls_certificates(sys.argv[1])
h.set_tls_verify_peer(True)
h.set_export_name("disk")
h.connect_tcp("localhost", sys.argv[2])
assert h.get_tls_negotiated() and h.get_structured_replies_negotiated()
assert h.pread(1048576, 5 * 1048576) == bytes([2]) * 1048576
h.shutdown()
`;
    await run("/usr/bin/python3", "-c", script, folder, String(port));
    const options = `driver=nbd,host=localhost,port=${port},export=disk,tls-creds=t`;
    const object = `tls-creds-x509,id=t,dir=${folder},endpoint=client`;
    const map = await run("qemu-img", "map", "--output=json", "--object", object, "--image-opts", options);
    assert.equal((JSON.parse(map) as unknown[]).length, holes.length, map);
    await assert.rejects(run("nbdinfo", `nbd://localhost:${port}/disk`), /not supported/);
  });
});

import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { readdir, readFile, stat, writeFile } from "node:fs/promises";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { run } from "@skep/base";
import { eventually, Installation } from "./support.ts";

let skep: Installation;
/** Where a test keeps its disks: outside skep's home. */
let files: string;
before(async () => {
  skep = await Installation.make();
  files = skep.environment.HOME as string;
});
after(() => skep[Symbol.asyncDispose]());

const tiny = ["--image", "tiny", "--memory", "128M", "--cpus", "1"];
const sha256 = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex");
const names = async () => (await skep.skep(["image", "ls", "-q"])).stdout.trim().split("\n").sort();

interface Server extends AsyncDisposable {
  url: string;
  requests: IncomingMessage[];
}

/** An HTTP server on the loopback, with the answers that a test wants. */
async function serve(answer: (request: IncomingMessage, response: ServerResponse) => void): Promise<Server> {
  const requests: IncomingMessage[] = [];
  const server = createServer((request, response) => {
    requests.push(request);
    answer(request, response);
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  assert.ok(address !== null && typeof address === "object");
  return {
    url: `http://127.0.0.1:${address.port}`,
    requests,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      server.close();
    },
  };
}

/** Starts a command, waits until `holds`, sends Ctrl-C, and resolves with its end. */
async function interrupted(args: readonly string[], holds: (output: string) => boolean | Promise<boolean>) {
  const child = skep.spawn(args);
  let output = "";
  child.stderr.on("data", (text) => {
    output += text;
  });
  const exit = once(child, "exit");
  await eventually(
    async () => child.exitCode !== null || (await holds(output)),
    () => `skep ${args.join(" ")} printed only: ${output}`,
  );
  child.kill("SIGINT");
  return { status: (await exit)[0] as number, output };
}

/** Nothing half made: no temporary entry among the images, no tree of a build, no mount below the home. */
async function nothingIsLeft(): Promise<void> {
  for (const name of await readdir(join(skep.home, "images"))) assert.match(name, /^([0-9a-f]{64}|refs)$/);
  assert.deepEqual(await readdir(join(skep.home, "cache/build")).catch(() => []), []);
  assert.ok(!(await readFile("/proc/self/mounts", "utf8")).includes(skep.home));
}

describe("images that are here", () => {
  it("are listed, shown and verified", async () => {
    assert.match((await skep.skep(["image", "ls"])).stdout, /^NAME +ARCH[^\n]*\ntiny +x86_64/);
    const { image, directory } = JSON.parse((await skep.skep(["image", "inspect", "tiny"])).stdout);
    assert.equal(image.directBoot, true);
    assert.ok((await stat(directory)).isDirectory());
    assert.match((await skep.skep(["image", "verify", "tiny"])).stdout, /tiny is as it was/);
    const { stderr } = await skep.skep(["image", "inspect", "none"], { status: 1 });
    assert.match(stderr, /"none".*\n.*skep image/);
  });

  it("are not removed while a machine stands on them", async () => {
    await skep.skep(["new", "user", ...tiny]);
    const { stderr } = await skep.skep(["image", "rm", "tiny"], { status: 1 });
    assert.match(stderr, /tiny.*user/);
    assert.match((await skep.skep(["image", "ls"])).stdout, /tiny .* user /);
    await skep.skep(["rm", "user"]);
  });

  it("of the catalog are listed with how they are verified", async () => {
    const { stdout } = await skep.skep(["image", "catalog"]);
    for (const name of ["alpine", "debian-12", "ubuntu", "fedora"])
      assert.match(stdout, new RegExp(`^${name}`, "m"));
    assert.match(stdout, /VERIFIED BY/);
  });
});

describe("import", () => {
  it("takes qcow2 and raw disks, of which machines are made", async () => {
    await run("qemu-img", ["create", "-q", "-f", "qcow2", join(files, "one.qcow2"), "16M"]);
    await writeFile(join(files, "two.raw"), Buffer.alloc(4 * 1024 ** 2, 7));
    assert.equal((await skep.skep(["image", "import", join(files, "one.qcow2")])).stdout, "one\n");
    await skep.skep(["image", "import", join(files, "two.raw"), "--name", "second", "--user", "me"]);
    assert.deepEqual(await names(), ["one", "second", "tiny"]);
    await skep.skep(["new", "m", "--image", "second", "--memory", "128M", "--disk", "8M"]);
    assert.equal((await skep.machine("m")).diskBytes, 8 * 1024 ** 2);
  });

  it("refuses what points outside of itself, is cut off, absurd, or not a disk", async () => {
    const evil = join(files, "evil.qcow2");
    await run("qemu-img", ["create", "-q", "-f", "qcow2", "-F", "raw", "-b", "/etc/passwd", evil, "16M"]);
    const data = join(files, "data.qcow2");
    await run("qemu-img", ["create", "-q", "-f", "qcow2", "-o", `data_file=${files}/ext.raw`, data, "16M"]);
    const huge = join(files, "huge.qcow2");
    await run("qemu-img", ["create", "-q", "-f", "qcow2", "-o", "cluster_size=2M", huge, "900T"]);
    const cut = join(files, "cut.qcow2");
    await writeFile(cut, (await readFile(join(files, "one.qcow2"))).subarray(0, 90));
    const before_ = await names();
    const refused: [string, RegExp][] = [
      [evil, /backing file/],
      [data, /keeps its data in another file/],
      [huge, /900 TiB|too large|larger/],
      [cut, /./],
      [files, /directory|not a/],
      [join(files, "absent.raw"), /does not exist|no such/i],
    ];
    for (const [path, message] of refused) {
      const { stderr } = await skep.skep(["image", "import", path], { status: null });
      assert.match(stderr, /^skep: /m, path);
      assert.match(stderr, message);
    }
    assert.deepEqual(await names(), before_);
    await nothingIsLeft();
  });

  it("checks the checksum that is given", async () => {
    const path = join(files, "two.raw");
    const wrong = await skep.skep(["image", "import", path, "--name", "sum", "--sha256", "0".repeat(64)], {
      status: 1,
    });
    assert.match(wrong.stderr, /has sha256 .*expected 0000/);
    await skep.skep(["image", "import", path, "--name", "sum", "--sha256", sha256(await readFile(path))]);
  });
});

describe("prune", () => {
  it("keeps what machines need, also through a layer, and removes the rest", async () => {
    await skep.skep(["new", "child", "--from", "m", "--memory", "128M"]);
    await skep.skep(["rm", "m"]);
    assert.equal(
      (await readdir(join(skep.home, "layers"))).filter((name) => name.endsWith(".qcow2")).length,
      1,
    );
    await skep.skep(["new", "keep", ...tiny]);
    assert.equal((await skep.skep(["image", "prune"])).stdout, "");
    assert.ok((await names()).includes("one"), "an image with a name stays");
    const { stdout, stderr } = await skep.skep(["image", "prune", "--all"]);
    assert.match(stdout, /one/);
    assert.match(stderr, /freed/);
    const left = await names();
    assert.ok(left.includes("tiny") && !left.includes("one"), String(left));
    await skep.skep(["start", "child"]);
    await skep.skep(["rm", "--all", "--force"]);
    assert.deepEqual(await readdir(join(skep.home, "layers")), []);
  });
});

describe("pull by URL", () => {
  const disk = randomBytes(3 * 1024 ** 2);

  it("keeps what has the right checksum and refuses another", async () => {
    await using server = await serve((_request, response) => response.end(disk));
    const wrong = await skep.skep(
      ["image", "pull", `${server.url}/disk.raw`, "--as", "net", "--sha256", "1".repeat(64)],
      { status: 1 },
    );
    assert.match(wrong.stderr, /has sha256 .*expected 1111.*\n.*nothing was kept/);
    const pulled = ["image", "pull", `${server.url}/disk.raw`, "--as", "net", "--sha256", sha256(disk)];
    assert.equal((await skep.skep(pulled)).stdout, "net\n");
    const count = server.requests.length;
    await skep.skep(pulled);
    assert.equal(server.requests.length, count, "what is here was fetched again");
    await skep.skep(["image", "rm", "net"]);
    await nothingIsLeft();
  });

  it("goes on where it was cut off, also after a cancelled one", async () => {
    let stall = true;
    await using server = await serve((request, response) => {
      const start = Number(/bytes=(\d+)-/.exec(request.headers.range ?? "")?.[1] ?? 0);
      response.writeHead(start > 0 ? 206 : 200, {
        "content-length": disk.length - start,
        etag: '"one"',
        "accept-ranges": "bytes",
        ...(start > 0 ? { "content-range": `bytes ${start}-${disk.length - 1}/${disk.length}` } : {}),
      });
      if (stall) response.write(disk.subarray(start, start + 2 * 1024 ** 2));
      else response.end(disk.subarray(start));
    });
    const args = ["image", "pull", `${server.url}/part.raw`, "--as", "part", "--sha256", sha256(disk)];
    const { status } = await interrupted(args, (output) => output.includes("downloading part"));
    assert.equal(status, 130);
    assert.ok(!(await names()).includes("part"));
    await nothingIsLeft();
    stall = false;
    await skep.skep(args);
    assert.ok(
      server.requests.some(({ headers }) => headers.range !== undefined),
      "it began anew",
    );
    assert.ok((await names()).includes("part"));
  });

  it("ends clearly where nobody answers, and Ctrl-C ends it where nobody goes on", async () => {
    const { stderr } = await skep.skep(
      ["image", "pull", "http://127.0.0.1:1/x.raw", "--sha256", "2".repeat(64)],
      {
        status: 1,
      },
    );
    assert.match(stderr, /127\.0\.0\.1:1/);
    await using silent = await serve(() => {});
    const ended = await interrupted(
      ["image", "pull", `${silent.url}/never.raw`, "--sha256", "3".repeat(64)],
      (text) => silent.requests.length > 0 && /never: connecting/.test(text),
    );
    assert.equal(ended.status, 130);
    assert.match(ended.output, /never: connecting to 127\.0\.0\.1/);
    await nothingIsLeft();
  });
});

describe("a host without a network", () => {
  const offline = { HTTPS_PROXY: "http://127.0.0.1:1", HTTP_PROXY: "http://127.0.0.1:1", NO_PROXY: "" };

  it("is told at once that the catalog's image cannot be fetched, and what to do", async () => {
    await skep.skep(["daemon", "stop"]);
    const { stderr } = await skep.skep(["image", "pull", "alpine-3.22"], { status: 1, env: offline });
    assert.match(stderr, /cannot reach .*\n.*image build.*image import/);
  });
});

describe("the default image", () => {
  it("is built, which is said; cancelled, it leaves nothing", async () => {
    const { status, output } = await interrupted(["new", "first", "--start"], (text) =>
      /building it from[\s\S]*debian-12: /.test(text),
    );
    assert.equal(status, 130);
    assert.match(output, /cancelling and undoing/);
    assert.deepEqual(await readdir(join(skep.home, "machines")), []);
    assert.ok(!(await names()).includes("debian-12"));
    await nothingIsLeft();
    assert.deepEqual(await skep.machines(), []);
  });
});

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { promisify } from "node:util";
import { gzipSync, zstdCompressSync } from "node:zlib";
import { quietWork } from "@skep/base";
import { ImageStore } from "./image-store.ts";
import { imagePaths } from "./paths.ts";
import { defaultLimits, pullImage } from "./pull.ts";
import { imagesIn, leftOvers, recordedWork, serve, serveFile, temporaryHome } from "./testing.ts";

const hurried = {
  ...defaultLimits,
  answerTimeoutMs: 5000,
  stallTimeoutMs: 5000,
  attempts: 3,
  retryDelayMs: 1,
};
const disk = randomBytes(3 * 1024 * 1024);
const sha256 = createHash("sha256").update(disk).digest("hex");
const code = (expected: string) => (error: { code?: string }) => {
  assert.equal(error.code, expected, String(error));
  return true;
};

test("a transfer that is cut off goes on where it ended", async () => {
  await using place = await temporaryHome();
  await using server = await serve((request, response, count) => {
    if (count > 2) return serveFile(disk, '"v1"', request, response);
    const from = Number(/\d+/.exec(request.headers.range ?? "")?.[0] ?? 0);
    const headers = { etag: '"v1"', "content-length": disk.length - from };
    const range = { "content-range": `bytes ${from}-${disk.length - 1}/${disk.length}` };
    response.writeHead(from === 0 ? 200 : 206, from === 0 ? headers : { ...headers, ...range });
    response.write(disk.subarray(from, from + 1_000_000), () => response.destroy());
  });
  const request = { name: server.url("/disk.raw"), sha256 };
  const { work, reports } = recordedWork();
  const image = await pullImage(imagePaths(place.home), request, work, hurried);
  assert.ok(image.disk !== null);
  assert.deepEqual(await readFile(image.disk.path), disk);
  assert.ok(
    server.requests.slice(1).every(({ range, ifRange }) => range !== undefined && ifRange === '"v1"'),
  );
  assert.ok(reports.some(({ done, total }) => done === disk.length && total === disk.length));
  assert.deepEqual(await readdir(imagePaths(place.home).downloads), []);
});

test("what a failed pull got is used by the next one", async () => {
  await using place = await temporaryHome();
  let broken = true;
  await using server = await serve((request, response) => {
    if (!broken) return serveFile(disk, '"v1"', request, response);
    if (request.headers.range !== undefined) return void response.destroy();
    response.writeHead(200, { etag: '"v1"', "content-length": disk.length });
    response.write(disk.subarray(0, 2_000_000), () => response.destroy());
  });
  const paths = imagePaths(place.home);
  const request = { name: server.url("/disk.raw"), sha256 };
  await assert.rejects(pullImage(paths, request, quietWork(), hurried), code("DOWNLOAD_FAILED"));
  broken = false;
  await pullImage(paths, request, quietWork(), hurried);
  const resumedFrom = Number(/\d+/.exec(server.requests.at(-1)?.range ?? "")?.[0]);
  assert.ok(resumedFrom > 0);
});

test("a file that changed on the server, or a server without ranges, starts anew", async () => {
  for (const ignoresRanges of [false, true]) {
    await using place = await temporaryHome();
    const old = randomBytes(disk.length);
    await using server = await serve((request, response, count) => {
      if (count === 1) {
        response.writeHead(200, { etag: '"old"', "content-length": old.length });
        response.write(old.subarray(0, 1_000_000), () => response.destroy());
      } else if (ignoresRanges) response.writeHead(200, { etag: '"old"' }).end(disk);
      else serveFile(disk, '"new"', request, response);
    });
    const image = await pullImage(
      imagePaths(place.home),
      { name: server.url("/d.raw"), sha256 },
      quietWork(),
      hurried,
    );
    assert.ok(image.disk !== null);
    assert.deepEqual(await readFile(image.disk.path), disk);
  }
});

test("a wrong checksum keeps nothing", async () => {
  await using place = await temporaryHome();
  await using server = await serve((request, response) => serveFile(disk, '"v1"', request, response));
  const paths = imagePaths(place.home);
  const request = { name: server.url("/disk.raw"), sha256: "0".repeat(64) };
  await assert.rejects(pullImage(paths, request, quietWork(), hurried), code("CHECKSUM_MISMATCH"));
  assert.deepEqual(new ImageStore(place).list(), []);
  assert.deepEqual(await readdir(paths.downloads), []);
});

test("a server that promises more than it sends is not believed", async () => {
  await using place = await temporaryHome();
  await using server = await serve((_, response) => {
    response.writeHead(200, { "content-length": disk.length + 1000 });
    response.write(disk, () => response.destroy());
  });
  const pull = pullImage(
    imagePaths(place.home),
    { name: server.url("/d.raw"), sha256 },
    quietWork(),
    hurried,
  );
  await assert.rejects(pull, code("DOWNLOAD_FAILED"));
});

test("a body without an end stops at the limit, whether or not its length was told", async () => {
  for (const told of [true, false]) {
    await using place = await temporaryHome();
    await using server = await serve((_, response) => {
      response.writeHead(200, told ? { "content-length": 1e15 } : {});
      const more = () => {
        while (!response.destroyed && response.write(Buffer.alloc(65_536)));
        response.once("drain", more);
      };
      more();
    });
    const paths = imagePaths(place.home);
    const limits = { ...hurried, limitBytes: 5_000_000 };
    const pull = pullImage(paths, { name: server.url("/d.raw") }, quietWork(), limits);
    await assert.rejects(pull, code("DOWNLOAD_TOO_LARGE"));
    assert.deepEqual(await readdir(paths.downloads), []);
  }
});

test("redirects are followed a few times, never to another scheme", async () => {
  await using place = await temporaryHome();
  await using server = await serve((request, response) => {
    if (request.url === "/ok") response.writeHead(302, { location: "/disk.raw" }).end();
    else if (request.url === "/loop") response.writeHead(302, { location: "/loop" }).end();
    else if (request.url === "/file") response.writeHead(302, { location: "file:///etc/passwd" }).end();
    else serveFile(disk, '"v1"', request, response);
  });
  const paths = imagePaths(place.home);
  await pullImage(paths, { name: server.url("/ok"), as: "ok", sha256 }, quietWork(), hurried);
  const loop = pullImage(paths, { name: server.url("/loop"), as: "loop", sha256 }, quietWork(), hurried);
  await assert.rejects(loop, /more than 8 redirects/);
  const file = pullImage(paths, { name: server.url("/file"), as: "file", sha256 }, quietWork(), hurried);
  await assert.rejects(file, code("URL_INVALID"));
});

test("two pulls of one image at once download it once", async () => {
  await using place = await temporaryHome();
  await using server = await serve((request, response) => serveFile(disk, '"v1"', request, response));
  const request = { name: server.url("/disk.raw"), sha256 };
  const pull = () => pullImage(imagePaths(place.home), request, quietWork(), hurried);
  const [first, second] = await Promise.all([pull(), pull()]);
  assert.equal(first.digest, second.digest);
  assert.equal(server.requests.length, 1);
  assert.deepEqual(leftOvers(await readdir(imagesIn(place.home))), []);
});

test("compressed disks are unpacked, zeros as holes; one that is cut off is refused", async () => {
  await using place = await temporaryHome();
  const content = Buffer.concat([disk, Buffer.alloc(8 * 1024 * 1024)]);
  const raw = join(place.home, "disk");
  await writeFile(raw, content);
  await promisify(execFile)("xz", ["-0", raw]);
  const packed: Record<string, Buffer> = {
    gz: gzipSync(content),
    zst: zstdCompressSync(content),
    xz: await readFile(`${raw}.xz`),
    cut: gzipSync(content).subarray(0, 1_000_000),
  };
  await using server = await serve((request, response) => {
    serveFile(packed[request.url?.split(".").at(-1) ?? ""] as Buffer, `"${request.url}"`, request, response);
  });
  const pull = (kind: string) =>
    pullImage(
      imagePaths(place.home),
      { name: server.url(`/disk.raw.${kind}`), as: kind },
      quietWork(),
      hurried,
    );
  for (const kind of ["gz", "zst", "xz"]) {
    const image = await pull(kind);
    assert.ok(image.disk !== null);
    assert.equal(image.disk.virtualBytes, content.length);
    assert.ok(image.storedBytes < content.length, "the zeros take no room");
    assert.deepEqual(await readFile(image.disk.path), content);
  }
  await assert.rejects(pull("cut"), code("DISK_REFUSED"));
  assert.deepEqual(leftOvers(await readdir(imagesIn(place.home))), []);
});

test("a catalog image is checked against its publisher's list; the user's own catalog counts", async () => {
  await using place = await temporaryHome();
  let list = `deadbeef  other\n${createHash("sha512").update(disk).digest("hex")}  disk-amd64.raw\n`;
  await using server = await serve((request, response) => {
    if (request.url?.endsWith("SUMS")) response.end(list);
    else serveFile(disk, '"v1"', request, response);
  });
  const catalog = {
    version: 1,
    images: [
      {
        name: "mine-1.0",
        user: "me",
        archNames: { x86_64: "amd64" },
        url: server.url("/disk-{arch}.raw"),
        checksums: "{base}/SUMS",
        verification: "SUMS",
      },
    ],
  };
  await writeFile(join(place.home, "catalog.yaml"), JSON.stringify(catalog));
  const store = new ImageStore(place);
  assert.equal(store.catalog().find(({ name }) => name === "mine-1.0")?.present, false);
  const image = await store.pull({ name: "mine-1.0", arch: "x86_64" }, quietWork());
  assert.equal(image.user, "me");
  assert.equal(store.catalog().find(({ name }) => name === "mine-1.0")?.present, true);
  const requests = server.requests.length;
  assert.equal((await store.pull({ name: "mine-1.0", arch: "x86_64" }, quietWork())).digest, image.digest);
  assert.equal(server.requests.length, requests + 1, "only the list is asked for again");
  list = "nothing of interest\nhere\n";
  const again = store.pull({ name: "mine-1.0", arch: "x86_64", force: true }, quietWork());
  await assert.rejects(again, code("CHECKSUM_ABSENT"));
  await assert.rejects(
    store.pull({ name: "mine-1.0", arch: "aarch64" }, quietWork()),
    code("CATALOG_UNKNOWN"),
  );
});

test("an unverified pull says so", async () => {
  await using place = await temporaryHome();
  await using server = await serve((request, response) => serveFile(disk, '"v1"', request, response));
  const { work, notes } = recordedWork();
  const store = new ImageStore(place);
  const image = await store.pull({ name: server.url("/Some_Disk.RAW"), arch: "aarch64" }, work);
  assert.equal(image.name, "some-disk");
  assert.equal(image.arch, "aarch64");
  assert.match(notes.join("\n"), /unverified/);
  assert.equal(store.manifest(image).pull?.verified, "unverified");
});

test("a host that cannot be reached gives a clear error", async () => {
  await using place = await temporaryHome();
  const closed = await serve(() => {});
  const url = closed.url("/disk.raw");
  await closed[Symbol.asyncDispose]();
  await assert.rejects(
    pullImage(imagePaths(place.home), { name: url, sha256 }, quietWork(), hurried),
    code("OFFLINE"),
  );
  await assert.rejects(
    pullImage(imagePaths(place.home), { name: "ftp://x/y" }, quietWork(), hurried),
    code("URL_INVALID"),
  );
});

test("a cancelled pull keeps its part and leaves nothing in the store", async () => {
  await using place = await temporaryHome();
  const abort = new AbortController();
  await using server = await serve((_, response) => {
    response.writeHead(200, { etag: '"v1"', "content-length": disk.length });
    response.write(disk.subarray(0, 2_000_000), () => abort.abort());
  });
  const paths = imagePaths(place.home);
  await assert.rejects(
    pullImage(paths, { name: server.url("/d.raw"), sha256 }, quietWork(abort.signal), hurried),
  );
  assert.deepEqual(new ImageStore(place).list(), []);
});

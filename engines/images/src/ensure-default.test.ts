import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { readdir, writeFile } from "node:fs/promises";
import type { ServerResponse } from "node:http";
import { join } from "node:path";
import { test } from "node:test";
import { ImageStore } from "./image-store.ts";
import { imagePaths } from "./paths.ts";
import { hostArch } from "./requirements.ts";
import { imagesIn, leftOvers, recordedWork, serve, serveFile, temporaryHome } from "./testing.ts";

const disk = randomBytes(65_536);
const digest = createHash("sha512").update(disk).digest("hex");

interface DefaultImage {
  url: string;
  name?: string;
}

async function ownCatalog(home: string, { url, name = "debian-12" }: DefaultImage): Promise<void> {
  const image = {
    name,
    user: "me",
    archNames: { [hostArch]: "amd64" },
    url: `${url}/disk-{arch}.raw`,
    checksums: "{base}/SUMS",
    verification: "SUMS",
  };
  await writeFile(join(home, "catalog.yaml"), JSON.stringify({ version: 1, default: name, images: [image] }));
}

/** What `new` is told until the build would begin; the build itself is not waited for. */
async function notesOfBuild(home: string): Promise<string> {
  const abort = new AbortController();
  const { work, notes } = recordedWork(abort.signal);
  const remember = work.note;
  work.note = (message) => {
    remember(message);
    if (message.includes("building")) abort.abort();
  };
  await assert.rejects(new ImageStore({ home }).ensureDefault(hostArch, work));
  assert.ok(abort.signal.aborted, notes.join("\n"));
  assert.deepEqual(leftOvers(await readdir(imagesIn(home))), []);
  assert.deepEqual(await readdir(imagePaths(home).builds), []);
  return notes.join("\n");
}

const isDebian =
  existsSync("/etc/os-release") && /^ID=debian$/m.test(readFileSync("/etc/os-release", "utf8"));
const whereBuilt = { skip: isDebian ? false : "this host may have no sources of Debian" };

test("the default image is built where nobody has an own one of that name", whereBuilt, async () => {
  await using place = await temporaryHome();
  assert.match(await notesOfBuild(place.home), /^image debian-12 \(\S+\): building it/);
});

test("the default image is pulled where this host cannot build it, and why is said", async (t) => {
  await using place = await temporaryHome();
  const { PATH } = process.env;
  t.after(() => Object.assign(process.env, { PATH }));
  process.env.PATH = join(place.home, "nothing");
  const abort = new AbortController();
  const { work, notes } = recordedWork(abort.signal);
  work.report = ({ phase }) => {
    if (phase.includes("connecting to")) abort.abort();
  };
  await assert.rejects(new ImageStore(place).ensureDefault(hostArch, work));
  assert.ok(abort.signal.aborted, notes.join("\n"));
  assert.match(notes.join("\n"), /^image debian-12 \(\S+\) cannot be built: .*mmdebstrap/);
});

const sums = (hex: string) => `${hex}  disk-amd64.raw\n`;
type Answer = (path: string, response: ServerResponse) => void;
const troubles: [string, Answer, RegExp][] = [
  ["has no such file", (_, response) => response.writeHead(404).end(), /answers 404/],
  ["hangs up", (_, response) => response.destroy(), /socket hang up/],
  ["never answers", () => {}, /no answer in 5 s/],
  ["lists no checksum of it", (_, response) => response.end("nothing\nhere\n"), /checksum/],
  [
    "sends other bytes than its list says",
    (path, response) => response.end(path === "/SUMS" ? sums("0".repeat(128)) : disk),
    /expected 0000/,
  ],
  [
    "has the list only",
    (path, response) => (path === "/SUMS" ? response.end(sums(digest)) : response.writeHead(410).end()),
    /answers 410/,
  ],
];

for (const [trouble, answer, why] of troubles) {
  test(`the default image is built, and why is said, where its server ${trouble}`, async () => {
    await using place = await temporaryHome();
    await using server = await serve((request, response) => answer(request.url ?? "", response));
    await ownCatalog(place.home, { url: server.url("") });
    const notes = await notesOfBuild(place.home);
    assert.match(notes, /^image debian-12 \(\S+\) cannot be pulled: .*\n.*building it/);
    assert.match(notes, why);
  });
}

test("the default image is built, and why is said, where its host refuses", async () => {
  await using place = await temporaryHome();
  const closed = await serve(() => {});
  await closed[Symbol.asyncDispose]();
  await ownCatalog(place.home, { url: closed.url("") });
  assert.match(await notesOfBuild(place.home), /cannot be pulled: .*127\.0\.0\.1.*ECONNREFUSED/);
});

test("the default image is pulled where it can be had, and its source is said", async () => {
  await using place = await temporaryHome();
  await using server = await serve((request, response) => {
    if (request.url === "/SUMS") response.end(sums(digest));
    else serveFile(disk, '"1"', request, response);
  });
  await ownCatalog(place.home, { url: server.url("") });
  const { work, notes } = recordedWork();
  const store = new ImageStore(place);
  const image = await store.ensureDefault(hostArch, work);
  assert.equal(image.user, "me");
  assert.match(notes.join("\n"), /^image debian-12 \(\S+\): pulled from http:/);
  const requests = server.requests.length;
  assert.equal((await store.ensureDefault(hostArch, work)).digest, image.digest);
  assert.equal(server.requests.length, requests);
});

test("a user's own default that nobody knows how to build is an error", async () => {
  await using place = await temporaryHome();
  await using server = await serve((_, response) => response.writeHead(404).end());
  await ownCatalog(place.home, { url: server.url(""), name: "mine" });
  const { work } = recordedWork();
  await assert.rejects(new ImageStore(place).ensureDefault(hostArch, work), { code: "DOWNLOAD_FAILED" });
});

import assert from "node:assert/strict";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { forkSeed } from "./fork-seed.ts";
import { readIsoFiles } from "./iso-codec.ts";
import { writeIso, writeSeed } from "./seed.ts";

const own = { id: "03b49149-ddde-4aee-a2d6-47ed93d7dba8", name: "web-1" };
const machineId = "f".repeat(32);
const content = {
  instanceId: "11111111-1111-4111-8111-111111111111",
  hostname: "web",
  publicKeys: ["ssh-ed25519 AAAA"],
  env: { COLOUR: "red" },
  machineId,
  userData: "#cloud-config\nruncmd: [[touch, /done]]\n",
  networkConfig: "version: 2\n",
};

let directory: string;
let image: Buffer;

before(async () => {
  directory = await mkdtemp(join(tmpdir(), "skep-seed-"));
  const path = join(directory, "seed.iso");
  await writeSeed(path, content);
  image = await readFile(path);
});

after(() => rm(directory, { recursive: true, force: true }));

describe("the seed of a copy", () => {
  it("has the copy's identity, and else what the source was given", async () => {
    const source = readIsoFiles(image);
    const path = join(directory, "copy.iso");
    await writeIso(path, forkSeed(source, own));
    const copy = readIsoFiles(await readFile(path));
    assert.deepEqual([...copy.keys()].sort(), [...source.keys()].sort());
    const metaData = JSON.parse(String(copy.get("meta-data")));
    assert.equal(metaData["instance-id"], own.id);
    assert.equal(metaData["local-hostname"], own.name);
    assert.deepEqual(metaData["public-keys"], content.publicKeys);
    assert.equal(String(copy.get("user-data")), content.userData);
    assert.equal(String(copy.get("network-config")), content.networkConfig);
    const vendorData = String(copy.get("vendor-data"));
    assert.ok(!vendorData.includes(machineId));
    assert.equal(vendorData.split(own.id.replaceAll("-", "")).length, 3);
    const rest = vendorData.replaceAll(own.id.replaceAll("-", ""), machineId);
    assert.equal(rest, String(source.get("vendor-data")));
  });

  it("has nothing but what a seed has, whatever its source held", async () => {
    const files = new Map([
      ["../../etc/passwd", Buffer.from("x")],
      ["meta-data", Buffer.from("[not json")],
    ]);
    const copy = forkSeed(files, own);
    assert.deepEqual(Object.keys(copy).sort(), ["meta-data", "vendor-data"]);
    assert.equal(JSON.parse(String(copy["meta-data"]))["instance-id"], own.id);
  });

  it("is not made from what is no seed, wherever it is cut off or altered", () => {
    assert.throws(() => readIsoFiles(Buffer.alloc(0)), /no ISO 9660 image/);
    assert.throws(() => readIsoFiles(Buffer.alloc(64 * 1024, 0xff)), /no ISO 9660 image/);
    for (let length = 0; length < image.length; length += 2048) {
      const expected = /no ISO 9660 image|outside of its|cut off/;
      try {
        readIsoFiles(image.subarray(0, length));
      } catch (error) {
        assert.match(String(error), expected);
      }
    }
    // Each byte of the directory and of what leads to it: refused or read, and never without an end.
    const altered = Buffer.from(image);
    for (let at = 16 * 2048; at < Math.min(image.length, 40 * 2048); at += 1) {
      altered.set(image.subarray(at - 1, at), at - 1);
      altered[at] = 0xff;
      try {
        readIsoFiles(altered);
      } catch (error) {
        assert.match(String(error), /no ISO 9660 image|outside of its|cut off|more than/);
      }
    }
  });
});

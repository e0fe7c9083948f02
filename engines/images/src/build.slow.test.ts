import assert from "node:assert/strict";
import { readdir, readFile } from "node:fs/promises";
import { test } from "node:test";
import type { Arch } from "@skep/api/schemas";
import { quietWork } from "@skep/base";
import { ImageStore } from "./image-store.ts";
import { imagePaths } from "./paths.ts";
import { leftOvers, recordedWork, temporaryHome } from "./testing.ts";

const sourceDateEpoch = 1_750_000_000;

/** `e_machine` of an ELF file's head. */
const elfMachine: Record<Arch, number> = { x86_64: 62, aarch64: 183 };

/** For which architecture the helper in an initramfs was compiled. */
function helperMachine(initramfs: Buffer): number {
  const name = initramfs.indexOf("usr/sbin/skep-helper\0");
  assert.ok(name >= 0, "the initramfs has no helper");
  return initramfs.readUInt16LE(initramfs.indexOf("\x7fELF", name, "latin1") + 18);
}

async function buildTwice(name: string, arch: Arch) {
  await using first = await temporaryHome();
  await using second = await temporaryHome();
  const manifests = [];
  for (const { home } of [first, second]) {
    const store = new ImageStore({ home });
    const image = await store.build({ name, arch, sourceDateEpoch }, quietWork());
    assert.deepEqual(await store.verify(image.digest), { ok: true, problems: [] });
    const paths = imagePaths(home);
    assert.deepEqual(leftOvers(await readdir(paths.images)), []);
    assert.deepEqual(await readdir(paths.builds), []);
    manifests.push(store.manifest(image));
    if (image.disk === null)
      assert.equal(helperMachine(await readFile(String(image.initramfs))), elfMachine[arch]);
  }
  const [one, two] = manifests;
  assert.equal(one?.build?.rootTreeDigest, two?.build?.rootTreeDigest, "the root tree");
  assert.deepEqual(one, two, "every file, the ext4 file system included");
  return one;
}

for (const arch of ["x86_64", "aarch64"] as const) {
  test(`tiny for ${arch} is the same, built twice`, async () => {
    const manifest = await buildTwice("tiny", arch);
    assert.equal(manifest?.disk, null);
    assert.ok(manifest?.build?.packages.some(({ name }) => name === "qemu-guest-agent"));
  });
}

test("debian-12 is the same, built twice, and its kernel has VMGENID", async () => {
  const manifest = await buildTwice("debian-12", "x86_64");
  assert.equal(manifest?.build?.vmGenerationId, true);
  assert.equal(manifest?.ssh, true);
  assert.ok((manifest?.disk?.virtualBytes ?? 0) > 512 * 1024 ** 2);
});

test("debian-12 for aarch64 is built by emulation", async () => {
  await using place = await temporaryHome();
  const image = await new ImageStore(place).build({ name: "debian-12", arch: "aarch64" }, quietWork());
  assert.equal(image.arch, "aarch64");
  assert.match(image.kernelArguments, /ttyAMA0/);
});

test("an equal build is not repeated, and two at once make one image", async () => {
  await using place = await temporaryHome();
  const store = new ImageStore(place);
  const [first, second] = await Promise.all([
    store.build({ name: "tiny" }, quietWork()),
    store.build({ name: "tiny" }, quietWork()),
  ]);
  assert.equal(first.digest, second.digest);
  const { work, reports } = recordedWork();
  assert.equal((await store.build({ name: "tiny" }, work)).digest, first.digest);
  assert.deepEqual(reports, []);
});

test("a cancelled build leaves nothing", async () => {
  await using place = await temporaryHome();
  const abort = new AbortController();
  const { work } = recordedWork(abort.signal);
  work.report = ({ phase }) => {
    if (/installing|unpacking/.test(phase)) abort.abort();
  };
  await assert.rejects(new ImageStore(place).build({ name: "debian-12" }, work), { code: "CANCELLED" });
  const paths = imagePaths(place.home);
  assert.deepEqual(leftOvers(await readdir(paths.images)), []);
  assert.deepEqual(await readdir(paths.builds), []);
});

test("a package that does not exist is named, and leaves nothing", async () => {
  await using place = await temporaryHome();
  const recipe = `name: broken\ndistribution: debian\nsuite: bookworm\nkernel: { x86_64: linux-image-cloud-amd64 }
packages: [busybox-static, e2fsprogs, no-such-package-anywhere]\n`;
  const build = new ImageStore(place).build({ recipe, arch: "x86_64" }, quietWork());
  await assert.rejects(build, (error: Error & { code?: string; hint?: string }) => {
    assert.equal(error.code, "BUILD_FAILED");
    assert.match(error.message, /no-such-package-anywhere/);
    return true;
  });
  assert.deepEqual(await readdir(imagePaths(place.home).builds), []);
});

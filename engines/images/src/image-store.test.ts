import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdir, readdir, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { quietWork } from "@skep/base";
import { ImageStore } from "./image-store.ts";
import { withLock } from "./lock.ts";
import { imagePaths, pullLock } from "./paths.ts";
import { imagesIn, leftOvers, temporaryHome } from "./testing.ts";

async function add(home: string, name: string, arch: "x86_64" | "aarch64" = "x86_64") {
  const path = join(home, `${name}.img`);
  await writeFile(path, randomBytes(1024));
  return await new ImageStore({ home }).import({ path, name, arch }, quietWork());
}

test("a name is unique for each architecture; one that is absent says how to get it", async () => {
  await using place = await temporaryHome();
  const store = new ImageStore(place);
  const [arm, pc] = [await add(place.home, "base", "aarch64"), await add(place.home, "base", "x86_64")];
  assert.deepEqual(
    store.list().map(({ arch }) => arch),
    ["aarch64", "x86_64"],
  );
  assert.equal(store.get("base", "aarch64").digest, arm.digest);
  assert.equal(store.get("base", "x86_64").digest, pc.digest);
  assert.equal(store.get(arm.digest).arch, "aarch64");
  assert.equal(store.find("other"), undefined);
  assert.throws(
    () => store.get("other"),
    (error: { code?: string; hint?: string }) => {
      assert.equal(error.code, "IMAGE_NOT_FOUND");
      assert.match(error.hint ?? "", /skep image ls.*pull.*build/);
      return true;
    },
  );
});

test("a newer image takes the name; prune takes the old one unless a machine needs it, and all on request", async () => {
  await using place = await temporaryHome();
  const store = new ImageStore(place);
  const old = await add(place.home, "base");
  const renewed = await add(place.home, "base");
  const idle = await add(place.home, "idle");
  assert.equal(store.get("base").digest, renewed.digest);
  assert.equal(store.get(old.digest).digest, old.digest);
  assert.deepEqual((await store.prune(new Set([old.digest]))).removed, []);
  const { removed, freedBytes } = await store.prune(new Set());
  assert.deepEqual(removed, [`base@${old.digest.slice(0, 19)}`]);
  assert.ok(freedBytes > 0);
  assert.equal(store.find(old.digest), undefined);
  assert.deepEqual(
    store.list().map((image) => image.digest),
    [renewed.digest, idle.digest],
  );
  assert.deepEqual((await store.prune(new Map([[renewed.digest, ["web"]]]), true)).removed, ["idle"]);
  assert.equal(store.find(idle.digest), undefined);
  assert.equal(store.get("base").digest, renewed.digest);
});

test("an image under a machine is not removed", async () => {
  await using place = await temporaryHome();
  const store = new ImageStore(place);
  const image = await add(place.home, "base");
  const used = new Map([[image.digest, ["web", "db"]]]);
  await assert.rejects(store.remove("base", "x86_64", used), /web, db/);
  await store.remove("base", "x86_64", new Map());
  assert.deepEqual(store.list(), []);
  assert.equal(existsSync(image.directory), false);
});

test("prune takes what dead runs left and nothing of the living", async () => {
  await using place = await temporaryHome();
  const store = new ImageStore(place);
  await add(place.home, "base");
  const paths = imagePaths(place.home);
  const dead = join(paths.images, ".staging-999999999-1-00000000-abc");
  await mkdir(dead);
  await writeFile(join(dead, "disk.raw"), randomBytes(4096));
  await mkdir(paths.downloads, { recursive: true });
  for (const name of ["a.part", "a.part.json", "b.part"]) await writeFile(join(paths.downloads, name), "x");
  await mkdir(paths.packages, { recursive: true });
  await writeFile(join(paths.packages, "kept"), "x");
  const { promise: pulled, resolve: pullEnds } = Promise.withResolvers<void>();
  const pull = withLock(
    paths.locks,
    pullLock("b.part"),
    new AbortController().signal,
    assert.fail,
    () => pulled,
  );
  const { freedBytes } = await store.prune({ has: () => false });
  pullEnds();
  await pull;
  assert.ok(freedBytes >= 4096);
  assert.deepEqual(leftOvers(await readdir(imagesIn(place.home))), []);
  assert.deepEqual(await readdir(paths.downloads), ["b.part"], "that one is being pulled");
  assert.deepEqual(await readdir(paths.packages), []);
  assert.equal(store.list().length, 1);
});

test("names that are paths, empty or too long are refused", async () => {
  await using place = await temporaryHome();
  const store = new ImageStore(place);
  const path = join(place.home, "disk.img");
  await writeFile(path, "");
  await truncate(path, 1024);
  for (const name of ["../evil", "a/b", "", "Ü", "x".repeat(49), ".hidden", "a..b", "-x"]) {
    await assert.rejects(store.import({ path, name }, quietWork()), { code: "NAME_INVALID" });
  }
  assert.equal((await store.import({ path, name: "ubuntu-24.04" }, quietWork())).name, "ubuntu-24.04");
});

test("a damaged or future ref is named, not rewritten", async () => {
  await using place = await temporaryHome();
  await add(place.home, "base");
  const ref = join(imagePaths(place.home).refs, "x86_64", "base.json");
  await writeFile(ref, '{"version": 2}');
  assert.throws(() => new ImageStore(place).list(), { code: "FILE_VERSION" });
  await writeFile(ref, "{");
  assert.throws(() => new ImageStore(place).list(), { code: "FILE_DAMAGED" });
});

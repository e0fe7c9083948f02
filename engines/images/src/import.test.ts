import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import {
  chmod,
  mkdir,
  mkdtemp,
  open,
  readdir,
  readFile,
  rm,
  stat,
  truncate,
  writeFile,
} from "node:fs/promises";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { promisify } from "node:util";
import { quietWork } from "@skep/base";
import { ImageStore } from "./image-store.ts";
import { imagesIn, leftOvers, temporaryHome } from "./testing.ts";

const qemuImg = (...args: string[]) => promisify(execFile)("qemu-img", args);
let folder: string;
before(async () => {
  folder = await mkdtemp("/tmp/skep-disks-");
});
after(() => rm(folder, { recursive: true, force: true }));

async function refused(path: string, why: RegExp): Promise<void> {
  await using place = await temporaryHome();
  const store = new ImageStore(place);
  await assert.rejects(
    store.import({ path, name: "evil" }, quietWork()),
    (error: Error & { code?: string }) => {
      assert.match(`${error.code}: ${error.message}`, why);
      return true;
    },
  );
  assert.deepEqual(store.list(), []);
  const names = await readdir(imagesIn(place.home)).catch(() => []);
  assert.deepEqual(leftOvers(names), []);
}

test("a qcow2 disk is copied, read-only and passable for QEMU's own user", async () => {
  await using place = await temporaryHome();
  const path = join(folder, "good.qcow2");
  await qemuImg("create", "-q", "-f", "qcow2", path, "1G");
  const store = new ImageStore(place);
  const image = await store.import({ path, name: "good-1.0", user: "me", arch: "aarch64" }, quietWork());
  assert.deepEqual(image.disk?.format, "qcow2");
  assert.equal(image.disk?.virtualBytes, 1024 ** 3);
  assert.equal((await stat(image.directory)).mode & 0o777, 0o755);
  for (const file of await readdir(image.directory)) {
    assert.equal((await stat(join(image.directory, file))).mode & 0o777, 0o444);
  }
  assert.deepEqual(await readFile(image.disk?.path as string), await readFile(path));
  assert.deepEqual(await store.verify("good-1.0"), { ok: true, problems: [] });
  assert.equal(store.get(image.digest.slice(7, 17)).digest, image.digest);
});

test("the holes of a raw disk stay holes", async () => {
  await using place = await temporaryHome();
  const path = join(folder, "sparse.img");
  await writeFile(path, randomBytes(1_048_576));
  await truncate(path, 200 * 1_048_576);
  const image = await new ImageStore(place).import({ path }, quietWork());
  assert.equal(image.name, "sparse");
  assert.equal(image.disk?.virtualBytes, 200 * 1_048_576);
  assert.ok(image.storedBytes < 10 * 1_048_576);
});

test("a disk that would make QEMU open another file is refused", async () => {
  const base = join(folder, "base.raw");
  await writeFile(base, randomBytes(1_048_576));
  const plain = join(folder, "plain.qcow2");
  await qemuImg("create", "-q", "-f", "qcow2", "-b", base, "-F", "raw", plain);
  await refused(plain, /DISK_REFUSED.*backing file/);

  const passwd = join(folder, "passwd.qcow2");
  await qemuImg("create", "-q", "-f", "qcow2", "-u", "-b", "/etc/passwd", "-F", "raw", passwd, "1M");
  await refused(passwd, /backing file/);

  const json = join(folder, "json.qcow2");
  const backing = 'json:{"driver":"raw","file":{"driver":"file","filename":"/etc/shadow"}}';
  await qemuImg("create", "-q", "-f", "qcow2", "-u", "-b", backing, "-F", "raw", json, "1M");
  await refused(json, /backing file/);

  const external = join(folder, "external.qcow2");
  const data = join(folder, "data.raw");
  await qemuImg("create", "-q", "-f", "qcow2", "-o", `data_file=${data},data_file_raw=on`, external, "1M");
  await refused(external, /another file|external data file/);
});

test("absurd, encrypted, foreign and damaged disks are refused", async () => {
  const huge = join(folder, "huge.qcow2");
  await qemuImg("create", "-q", "-f", "qcow2", "-o", "cluster_size=2M", huge, "65T");
  await refused(huge, /virtual size.*above/);

  const implausible = join(folder, "implausible.qcow2");
  await qemuImg("create", "-q", "-f", "qcow2", implausible, "30T");
  await refused(implausible, /absurd/);

  const locked = join(folder, "locked.qcow2");
  // Not LUKS: QEMU measures its key's derivation, which fails on a host that is busy.
  const secret = ["--object", "secret,id=s,data=x", "-o", "encrypt.format=aes,encrypt.key-secret=s"];
  await qemuImg("create", "-q", "-f", "qcow2", ...secret, locked, "1M");
  await refused(locked, /encrypted/);

  const vmdk = join(folder, "disk.vmdk");
  await qemuImg("create", "-q", "-f", "vmdk", vmdk, "1M");
  await refused(vmdk, /VMDK/);

  const good = join(folder, "whole.qcow2");
  const raw = join(folder, "whole.raw");
  await writeFile(raw, randomBytes(4 * 1_048_576));
  await qemuImg("convert", "-f", "raw", "-O", "qcow2", raw, good);
  const bytes = await readFile(good);
  const cut = join(folder, "cut.qcow2");
  for (const length of [3, 40, 80, 110]) {
    await writeFile(cut, bytes.subarray(0, length));
    await refused(cut, /DISK_REFUSED/);
  }
  await writeFile(cut, bytes.subarray(0, bytes.length - 1_000_000));
  await refused(cut, /DISK_REFUSED/);

  const newer = join(folder, "newer.qcow2");
  const changed = Buffer.from(bytes);
  changed.writeBigUInt64BE(1n << 40n, 72);
  await writeFile(newer, changed);
  await refused(newer, /newer QEMU/);

  const page = join(folder, "page.img");
  await writeFile(page, "<!DOCTYPE html><title>404</title>".padEnd(1024));
  await refused(page, /web page/);
  const odd = join(folder, "odd.img");
  await writeFile(odd, randomBytes(1000));
  await refused(odd, /multiple of 512/);
});

test("what is no file, or not there, is said", async () => {
  await refused(join(folder, "absent"), /FILE_UNREADABLE.*no such file/);
  await mkdir(join(folder, "directory"));
  await refused(join(folder, "directory"), /not a regular file/);
  await refused("/dev/zero", /not a regular file/);
  await writeFile(join(folder, "empty"), "");
  await refused(join(folder, "empty"), /empty/);
});

test("a wrong --sha256 is refused before anything is copied", async () => {
  await using place = await temporaryHome();
  const path = join(folder, "sum.img");
  await writeFile(path, randomBytes(512));
  const store = new ImageStore(place);
  await assert.rejects(store.import({ path, sha256: "1".repeat(64) }, quietWork()), /expected 1111/);
});

test("verify finds a changed file", async () => {
  await using place = await temporaryHome();
  const path = join(folder, "change.img");
  await writeFile(path, randomBytes(4096));
  const store = new ImageStore(place);
  const image = await store.import({ path, name: "change" }, quietWork());
  await chmod(image.disk?.path as string, 0o644);
  const handle = await open(image.disk?.path as string, "r+");
  await handle.write(Buffer.from("x"), 0, 1, 100);
  await handle.close();
  const { ok, problems } = await store.verify("change");
  assert.equal(ok, false);
  assert.match(problems.join(), /disk.raw/);
});

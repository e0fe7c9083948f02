/** A disk that is full in the middle of it, over HTTP. Needs root, for the small file system. */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { rm, statfs, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, it } from "node:test";
import { isErrno } from "@skep/base";
import { type Answer, StoragedProcess } from "./storaged-process.ts";
import { eventually, Installation } from "./support.ts";

const mib = 1024 * 1024;
/** The store keeps 64 MiB free for deletions and itself. */
const diskBytes = 192 * mib;

class SmallDisk implements AsyncDisposable {
  readonly skep: Installation;
  readonly #ballast: string;
  #pieces = 0;

  private constructor(skep: Installation) {
    this.skep = skep;
    this.#ballast = join(skep.home, "ballast");
  }

  static async make(): Promise<SmallDisk> {
    const disk = new SmallDisk(await Installation.make([]));
    const { status, stderr } = await disk.skep.command("mount", [
      ...["-t", "tmpfs", "-o", `size=${diskBytes},mode=0711`],
      ...["skep-test", disk.skep.home],
    ]);
    if (status !== 0) {
      await disk.skep[Symbol.asyncDispose]();
      throw new Error(`mount: ${stderr}`);
    }
    return disk;
  }

  async freeBytes(): Promise<number> {
    const { bavail, bsize } = await statfs(this.skep.home);
    return bavail * bsize;
  }

  /** Another program fills the disk up to this. */
  async fill(leftBytes: number): Promise<void> {
    for (let free = await this.freeBytes(); free > leftBytes; free = await this.freeBytes()) {
      const piece = Buffer.alloc(Math.min(mib, free - leftBytes));
      try {
        await writeFile(`${this.#ballast}-${this.#pieces++}`, piece);
      } catch (error) {
        // storaged was quicker
        if (!isErrno(error, "ENOSPC")) throw error;
      }
    }
  }

  async empty(): Promise<void> {
    while (this.#pieces > 0) await rm(`${this.#ballast}-${--this.#pieces}`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // Lazily: it must go also where something still has a file of it open.
    await this.skep.command("umount", ["-l", this.skep.home]);
    await this.skep[Symbol.asyncDispose]();
  }
}

/** Half of it at once, the rest when `between` is over. */
async function* twoHalves(whole: Buffer, between: () => Promise<void>): AsyncGenerator<Buffer> {
  for (let at = 0; at < whole.length; at += mib) {
    if (at === whole.length / 2) await between();
    yield whole.subarray(at, at + mib);
  }
}

function assertFull({ status, code }: Answer, what: string): void {
  assert.ok(status === 503 || status === 507, `${what} answered ${status} ${code}`);
  assert.ok(code !== undefined, `${what} was refused without an error of S3's`);
}

describe("a full disk", { skip: process.getuid?.() === 0 ? false : "needs root to mount" }, () => {
  it("refuses what needs space, changes nothing, and is forgotten once there is space again", async () => {
    await using disk = await SmallDisk.make();
    await using storaged = await StoragedProcess.start(disk.skep);
    const send = (method: string, target: string, body?: Uint8Array) =>
      storaged.send(method, `/full${target}`, body === undefined ? {} : { body });
    const statusOf = async (...request: Parameters<typeof send>) => (await send(...request)).status;
    const [large, small] = [randomBytes(2 * mib), randomBytes(1000)];
    const assertOld = async () => {
      assert.ok((await send("GET", "/large")).body.equals(large));
      assert.ok((await send("GET", "/small")).body.equals(small));
      const { body } = await send("GET", "?list-type=2&prefix=");
      assert.match(body.toString(), /<Key>large<[\s\S]*<Key>small</);
      assert.doesNotMatch(body.toString(), /<Key>new/);
    };
    assert.equal(await statusOf("PUT", ""), 200);
    assert.equal(await statusOf("PUT", "/large", large), 200);
    assert.equal(await statusOf("PUT", "/small", small), 200);
    for (const name of ["/one", "/two"]) assert.equal(await statusOf("PUT", name, small), 200);
    const started = await send("POST", "/parts?uploads");
    const id = /<UploadId>([^<]+)</.exec(started.body.toString())?.[1];

    // In the middle of two puts the disk becomes full.
    const stream = (key: string, between: () => Promise<void>) => {
      const whole = randomBytes(64 * mib);
      return storaged.send("PUT", key, {
        stream: { sizeBytes: whole.length, pieces: twoHalves(whole, between) },
      });
    };
    assertFull(await stream("/full/large", () => disk.fill(4 * mib)), "an overwrite under way");
    await assertOld();
    await disk.fill(4 * mib);
    const answers = await Promise.all([
      send("PUT", "/small", randomBytes(2000)),
      send("PUT", "/new", randomBytes(200_000)),
      send("PUT", `/parts?partNumber=1&uploadId=${id}`, randomBytes(5 * mib)),
      send("POST", "/new?uploads"),
    ]);
    for (const [i, answer] of answers.entries()) assertFull(answer, `request ${i}`);
    await assertOld();
    // What frees space needs none to speak of.
    assert.equal(await statusOf("DELETE", "/one"), 204);
    assert.equal(await statusOf("GET", "/one"), 404);

    // To the last byte: nothing can be written, all can be read.
    await disk.fill(0);
    assertFull(await send("PUT", "/small", randomBytes(3000)), "a put");
    await send("DELETE", "/two");
    await assertOld();

    await disk.empty();
    assert.equal(await statusOf("PUT", "/small", large), 200);
    assert.ok((await send("GET", "/small")).body.equals(large));
    assert.equal(await statusOf("PUT", `/parts?partNumber=1&uploadId=${id}`, large), 200);
    assert.equal(await statusOf("DELETE", "/two"), 204);
    assert.deepEqual(await storaged.check(), { complete: true, damaged: [], orphans: 0 });
    assert.equal(await statusOf("DELETE", `/parts?uploadId=${id}`), 204);
  });

  it("does not keep storaged from starting again, and what was stored is there", async () => {
    await using disk = await SmallDisk.make();
    await using storaged = await StoragedProcess.start(disk.skep);
    const body = randomBytes(mib);
    assert.equal((await storaged.send("PUT", "/full")).status, 200);
    assert.equal((await storaged.send("PUT", "/full/kept", { body })).status, 200);
    await disk.fill(mib);
    await storaged.kill();
    await storaged.start();
    assert.ok((await storaged.send("GET", "/full/kept")).body.equals(body));
    assertFull(await storaged.send("PUT", "/full/new", { body }), "a put");
    await disk.empty();
    await eventually(
      async () => (await storaged.send("PUT", "/full/new", { body })).status === 200,
      () => "it stays full although there is space",
    );
    assert.deepEqual(await storaged.check(), { complete: true, damaged: [], orphans: 0 });
  });
});

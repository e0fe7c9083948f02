/** Rounds of load over HTTP, `kill -9` of storaged, and a look at all that is left. */
import assert from "node:assert/strict";
import { createHash, randomBytes, randomInt } from "node:crypto";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { KeyModel } from "@skep/objects/model";
import type { Answer, Sent } from "./storaged-process.ts";
import { StoragedProcess } from "./storaged-process.ts";
import { eventually, Installation } from "./support.ts";

const bucket = "/load";
const mib = 1024 * 1024;
const writers = 12;
/** The sources of copies: nobody changes them. */
const stable = ["stable-small", "stable-large"];
const keys = Array.from({ length: 40 }, (_, i) => `dir-${i % 4}/key-${i}`);

export interface KillReport {
  kills: number;
  attempted: number;
  acknowledged: number;
}

/** Also kills now and then while it starts; those do not count. */
export async function killRounds(kills: number): Promise<KillReport> {
  await using skep = await Installation.make([]);
  await using storaged = await StoragedProcess.start(skep);
  const load = new Load(storaged);
  await load.prepare();
  for (let kill = 0; kill < kills; kill += 1) {
    await load.run(3 + randomInt(80), () => storaged.kill());
    for (let early = kill % 5 === 0 ? 2 : 0; early > 0; early -= 1) {
      storaged.spawn();
      await sleep(randomInt(500));
      await storaged.kill();
    }
    await storaged.start();
    await load.verify();
  }
  await load.abortUploads();
  // What a kill has left is swept once storaged runs.
  await eventually(
    async () => (await storaged.check()).orphans === 0,
    () => "orphans are never swept",
  );
  assert.deepEqual(await storaged.check(), { complete: true, damaged: [], orphans: 0 });
  const { stdout } = await skep.skep(["doctor"], { status: null });
  assert.doesNotMatch(stdout, /damaged|checksum/i);
  await load.removeAll();
  const blobs = join(skep.home, "objects/blobs");
  await eventually(
    async () =>
      (await readdir(blobs, { recursive: true, withFileTypes: true })).every((one) => !one.isFile()),
    () => "files are left in a store without objects",
  );
  return { kills, ...load.report };
}

type Attempt = ReturnType<KeyModel["begin"]>;

class Load {
  readonly report = { attempted: 0, acknowledged: 0 };
  readonly #storaged: StoragedProcess;
  readonly #models = new Map<string, KeyModel>();
  /** Keys that are only ever made, by several at once: the digest of whose put was acknowledged. */
  readonly #once = new Map<string, { tried: Set<string>; acknowledged: string | undefined }>();
  readonly #digests = new Map<string, string>();
  readonly #noise = randomBytes(7 * mib);
  #now = 0;
  #names = 0;

  constructor(storaged: StoragedProcess) {
    this.#storaged = storaged;
  }

  async prepare(): Promise<void> {
    assert.equal((await this.#storaged.send("PUT", bucket)).status, 200);
    for (const [i, key] of stable.entries()) {
      const body = this.#body(i === 0 ? 5000 : 3 * mib);
      assert.equal((await this.#send("PUT", key, { body })).status, 200);
      this.#digests.set(key, sha256(body));
      this.#model(key).settle(sha256(body), this.#now++);
    }
  }

  /** Until so many changes are acknowledged; then it is killed while others are under way. */
  async run(wanted: number, kill: () => Promise<void>): Promise<void> {
    const enough = this.report.acknowledged + wanted;
    const ending = new AbortController();
    const write = async () => {
      while (!ending.signal.aborted) {
        try {
          await this.#changeOne();
        } catch (error) {
          // Only the kill may cut a request off.
          if (!ending.signal.aborted) throw error;
        }
      }
    };
    const watch = async () => {
      while (this.report.acknowledged < enough) await sleep(1 + randomInt(5));
      ending.abort();
      await kill();
    };
    await Promise.all([watch(), ...Array.from({ length: writers }, write)]);
  }

  async verify(): Promise<void> {
    const seen = new Map<string, string>();
    const listed = await this.#list();
    for (const { key, sizeBytes, etag } of listed) {
      const { status, body, headers } = await this.#send("GET", key);
      assert.equal(status, 200, `${key} is listed and not there`);
      assert.deepEqual([body.length, headers.etag], [sizeBytes, etag], key);
      if (!etag.includes("-")) assert.equal(createHash("md5").update(body).digest("hex"), etag.slice(1, -1));
      seen.set(key, sha256(body));
    }
    for (const [key, model] of this.#models) {
      const digest = seen.get(key) ?? null;
      if (digest === null) assert.equal((await this.#send("HEAD", key)).status, 404, `${key} is not listed`);
      assert.ok(model.allows(digest, this.#now), `"${key}" is ${digest}, not one of ${model}`);
      model.settle(digest, this.#now++);
      seen.delete(key);
    }
    for (const [key, { tried, acknowledged }] of this.#once) {
      const digest = seen.get(key);
      if (acknowledged !== undefined) assert.equal(digest, acknowledged, `"${key}" was made twice, or lost`);
      else if (digest !== undefined) assert.ok(tried.has(digest), key);
      // So that the rounds stay short; what is gone must not come back.
      if (digest !== undefined) assert.equal((await this.#send("DELETE", key)).status, 204);
      seen.delete(key);
    }
    this.#once.clear();
    assert.deepEqual([...seen.keys()], [], "nobody has ever put these");
  }

  async abortUploads(): Promise<void> {
    const { body } = await this.#storaged.send("GET", `${bucket}?uploads`);
    for (const [, key, id] of body.toString().matchAll(/<Key>([^<]+)<[\s\S]*?<UploadId>([^<]+)</g)) {
      assert.equal((await this.#send("DELETE", `${key}?uploadId=${id}`)).status, 204);
    }
  }

  async removeAll(): Promise<void> {
    for (const { key } of await this.#list()) assert.equal((await this.#send("DELETE", key)).status, 204);
    assert.deepEqual(await this.#list(), []);
  }

  #send(method: string, key: string, sent?: Sent): Promise<Answer> {
    return this.#storaged.send(method, `${bucket}/${key}`, sent);
  }

  #model(key: string): KeyModel {
    const model = this.#models.get(key) ?? new KeyModel();
    this.#models.set(key, model);
    return model;
  }

  /** Bytes that no other body has. */
  #body(sizeBytes: number): Buffer {
    const body = Buffer.from(this.#noise.subarray(0, sizeBytes));
    body.write(`${this.#names++} `.padEnd(Math.min(24, sizeBytes)), 0, "latin1");
    return body;
  }

  async #changeOne(): Promise<void> {
    const key = keys[randomInt(keys.length)] as string;
    const kind = randomInt(100);
    if (kind < 12) return this.#change(key, null, () => this.#send("DELETE", key), { status: 204 });
    if (kind < 20) return this.#copy(key);
    if (kind < 24) return this.#multipart(key);
    if (kind < 32) return this.#replace(key);
    if (kind < 38) return this.#makeOnce();
    const body = this.#body(kind < 60 ? 200_000 + randomInt(mib) : randomInt(30_000));
    return this.#change(key, body, () => this.#send("PUT", key, { body }));
  }

  /** Acknowledged, or refused for its condition: anything else is a failure. */
  async #change(
    key: string,
    body: Buffer | string | null,
    work: () => Promise<Answer>,
    { status = 200, isConditional = false } = {},
  ): Promise<void> {
    const digest = body === null || typeof body === "string" ? body : sha256(body);
    const model = this.#model(key);
    const attempt: Attempt = model.begin(digest, this.#now++);
    this.report.attempted += 1;
    const answer = await work();
    if (isConditional && [404, 412].includes(answer.status)) return model.refuse(attempt);
    assert.equal(answer.status, status, `${key}: ${answer.body}`);
    attempt.acknowledged = this.#now++;
    this.report.acknowledged += 1;
  }

  #copy(key: string): Promise<void> {
    const source = stable[randomInt(stable.length)] as string;
    const headers = { "x-amz-copy-source": `${bucket}/${source}` };
    return this.#change(key, this.#digests.get(source) as string, async () => {
      const answer = await this.#send("PUT", key, { headers });
      assert.doesNotMatch(answer.body.toString(), /<Error>/);
      return answer;
    });
  }

  async #multipart(key: string): Promise<void> {
    const body = this.#body(5 * mib + 1 + randomInt(mib));
    const started = await this.#send("POST", `${key}?uploads`);
    const id = /<UploadId>([^<]+)</.exec(started.body.toString())?.[1];
    const parts = [body.subarray(0, 5 * mib), body.subarray(5 * mib)];
    const sent = await Promise.all(
      parts.map((part, i) => this.#send("PUT", `${key}?partNumber=${i + 1}&uploadId=${id}`, { body: part })),
    );
    const etags = sent.map(({ headers }, i) => {
      return `<Part><PartNumber>${i + 1}</PartNumber><ETag>${headers.etag}</ETag></Part>`;
    });
    const complete = Buffer.from(`<CompleteMultipartUpload>${etags.join("")}</CompleteMultipartUpload>`);
    await this.#change(key, body, async () => {
      const answer = await this.#send("POST", `${key}?uploadId=${id}`, { body: complete });
      assert.match(answer.body.toString(), /CompleteMultipartUploadResult/);
      return answer;
    });
  }

  /** Only if it is still what it was. */
  async #replace(key: string): Promise<void> {
    const { status, headers } = await this.#send("HEAD", key);
    if (status === 404) return;
    const body = this.#body(randomInt(400_000));
    const condition = { "if-match": headers.etag as string };
    const put = () => this.#send("PUT", key, { body, headers: condition });
    await this.#change(key, body, put, { isConditional: true });
  }

  /** Three at once make the same new key: one of them, at most, is told that it did. */
  async #makeOnce(): Promise<void> {
    const key = `once/${this.#names++}`;
    const made = { tried: new Set<string>(), acknowledged: undefined as string | undefined };
    this.#once.set(key, made);
    const make = async () => {
      const body = this.#body(randomInt(200_000) + 32);
      made.tried.add(sha256(body));
      this.report.attempted += 1;
      const { status } = await this.#send("PUT", key, { body, headers: { "if-none-match": "*" } });
      if (status === 412) return;
      assert.equal(status, 200);
      assert.equal(made.acknowledged, undefined, `two were told that they made ${key}`);
      made.acknowledged = sha256(body);
      this.report.acknowledged += 1;
    };
    const results = await Promise.allSettled([make(), make(), make()]);
    for (const result of results) if (result.status === "rejected") throw result.reason;
  }

  /** Page by page, with few a page so that there are several. */
  async #list(): Promise<{ key: string; sizeBytes: number; etag: string }[]> {
    const all: { key: string; sizeBytes: number; etag: string }[] = [];
    for (let token = ""; ; ) {
      const more = token === "" ? "" : `&continuation-token=${encodeURIComponent(token)}`;
      const page = await this.#storaged.send("GET", `${bucket}?list-type=2&max-keys=17${more}`);
      assert.equal(page.status, 200);
      const text = page.body.toString();
      for (const [, one = ""] of text.matchAll(/<Contents>([\s\S]*?)<\/Contents>/g)) {
        const field = (name: string) => new RegExp(`<${name}>([^<]*)<`).exec(one)?.[1] as string;
        const etag = field("ETag").replaceAll("&quot;", '"');
        all.push({ key: field("Key"), sizeBytes: Number(field("Size")), etag });
      }
      token = /<NextContinuationToken>([^<]+)</.exec(text)?.[1] ?? "";
      if (token === "") return all;
    }
  }
}

const sha256 = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex");

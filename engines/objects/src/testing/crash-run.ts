import assert from "node:assert/strict";
import { SkepError } from "@skep/base";
import { EmbeddedStore } from "../embedded.ts";
import type { Bytes } from "../types.ts";
import { digestOf } from "./digest.ts";
import { KeyModel, VersionsModel } from "./model.ts";
import { Random } from "./random.ts";
import { Schedule } from "./schedule.ts";
import { SimulatedFiles } from "./simulated-files.ts";
import { SimulatedIndex } from "./simulated-index.ts";
import { verifyStore } from "./verify.ts";

export const directory = "/store";
const keys = ["a", "b/one", "b/two", "c\0", "ü", "z".repeat(200)];
const owner = "someone";
/** Refusals that an operation of these clients may meet. */
const expected = new Set([
  "OBJECT_NOT_FOUND",
  "PRECONDITION_FAILED",
  "UPLOAD_NOT_FOUND",
  "PART_INVALID",
  "STORE_FULL",
  "VERSION_NOT_FOUND",
]);

/** Everything about one simulated machine; it lives through several crashes. */
export class CrashRun {
  readonly random: Random;
  readonly files: SimulatedFiles;
  readonly index: SimulatedIndex;
  readonly plain = new Map(keys.map((key) => [key, new KeyModel()]));
  readonly kept = new VersionsModel();
  /** Uploads that were begun: their parts that were acknowledged. */
  readonly uploads = new Map<string, { key: string; parts: Map<number, { etag: string; bytes: Buffer }> }>();
  schedule: Schedule;
  now = 0;
  #bodies = 0;

  constructor(seed: number) {
    this.random = new Random(seed);
    this.schedule = new Schedule(this.random, Number.POSITIVE_INFINITY);
    this.files = new SimulatedFiles(this.random, this.schedule);
    this.index = new SimulatedIndex(this.random, this.schedule);
  }

  async run(): Promise<void> {
    const rounds = 1 + this.random.below(3);
    await this.#whole(async (store) => {
      await store.createBucket("plain", { owner });
      await store.createBucket("kept", { owner });
      await store.updateBucket("kept", { versioning: "enabled" });
    });
    for (let round = 0; round < rounds; round += 1) {
      this.#restart(new Schedule(this.random, 20 + this.random.below(900)), false);
      await this.#live(round, this.random.chance(0.3) ? 0.03 : 0);
      this.files.fullProbability = 0;
      this.index.fullProbability = 0;
      // The machine may stop again while it recovers from having stopped.
      while (this.random.chance(0.4)) {
        this.#restart(new Schedule(this.random, 1 + this.random.below(60)), this.random.chance(0.5));
        await this.schedule.run(this.#open().then((store) => store.close()));
      }
      this.#restart(new Schedule(this.random, Number.POSITIVE_INFINITY), this.random.chance(0.5));
      await this.#whole((store) => verifyStore(this, store));
    }
  }

  #restart(schedule: Schedule, lostPower: boolean): void {
    this.schedule = schedule;
    if (lostPower) this.files.losePower();
    this.files.restart(schedule);
    this.index.restart(schedule, lostPower);
  }

  #open(): Promise<EmbeddedStore> {
    return EmbeddedStore.open({
      directory,
      files: this.files,
      index: this.index,
      defer: (work) => this.schedule.defer(work),
      clock: () => 1_700_000_000_000 + this.now,
      random: (bytes) => this.random.bytes(bytes),
      inlineBytes: 300,
      segmentBytes: 4096,
      minimumPartBytes: 0,
      reserveBytes: 0,
    });
  }

  /** Work that no crash interrupts; its failure is the run's. */
  async #whole(work: (store: EmbeddedStore) => Promise<void>): Promise<void> {
    const whole = (async () => {
      const store = await this.#open();
      await work(store);
      await store.close();
    })();
    await this.schedule.run(whole);
    await whole;
  }

  async #live(round: number, fullProbability: number): Promise<void> {
    const clients = (async () => {
      const store = await this.#open();
      this.files.fullProbability = fullProbability;
      this.index.fullProbability = fullProbability / 2;
      const count = 1 + this.random.below(5);
      await Promise.all(
        Array.from({ length: count }, async (_, client) => {
          const rounds = 5 + this.random.below(30);
          for (let i = 0; i < rounds && !this.schedule.hasCrashed; i += 1) {
            await this.#operation(store, `${round}.${client}.${i}`);
          }
        }),
      );
      if (this.random.chance(0.5)) await store.close();
    })();
    let failure: unknown;
    clients.catch((error: unknown) => {
      // Once the machine has stopped nobody sees what fails.
      if (!this.schedule.hasCrashed || error instanceof assert.AssertionError) failure = error;
    });
    await this.schedule.run(clients);
    if (failure !== undefined) throw failure;
  }

  async #operation(store: EmbeddedStore, name: string): Promise<void> {
    const operations: (() => Promise<unknown>)[] = [
      () => this.#put(store, name),
      () => this.#put(store, name),
      () => this.#delete(store),
      () => this.#read(store),
      () => this.#copy(store),
      () => this.#multipart(store, name),
      () => this.#continueUpload(store, name),
      () => this.#tag(store),
      () => this.#putVersion(store, name),
      () => this.#removeVersion(store),
      () => this.#attempt(() => store.sweep()),
    ];
    await this.random.pick(operations)();
  }

  body(name: string): Buffer {
    this.#bodies += 1;
    const size = this.random.pick([0, 1, 40, 200, 300, 301, 700, 1500]);
    const bytes = Buffer.alloc(size, `${name}#${this.#bodies}|`);
    return bytes;
  }

  async *pieces(bytes: Buffer): Bytes {
    for (let at = 0; at < bytes.length; ) {
      await this.schedule.turn();
      const length = 1 + this.random.below(bytes.length);
      yield bytes.subarray(at, at + length);
      at += length;
    }
  }

  /** True where it was done; false where it was refused; undefined where the machine stopped. */
  async #attempt(work: () => Promise<unknown>): Promise<boolean | undefined> {
    try {
      await work();
      return true;
    } catch (error) {
      if (this.schedule.hasCrashed && !(error instanceof assert.AssertionError)) return undefined;
      if (error instanceof SkepError && expected.has(error.code)) return false;
      throw error;
    }
  }

  async #change(
    key: string,
    digest: string | null,
    work: () => Promise<unknown>,
  ): Promise<boolean | undefined> {
    const model = this.plain.get(key) as KeyModel;
    const attempt = model.begin(digest, this.now++);
    const done = await this.#attempt(work);
    if (done === true) attempt.acknowledged = this.now++;
    else if (done === false) model.refuse(attempt);
    return done;
  }

  #put(store: EmbeddedStore, name: string): Promise<unknown> {
    const key = this.random.pick(keys);
    const bytes = this.body(name);
    const body = this.random.chance(0.5) ? bytes : this.pieces(bytes);
    const condition = this.random.chance(0.2) ? { condition: { ifNoneMatch: "*" } } : {};
    return this.#change(key, digestOf(bytes), () => store.put("plain", key, body, { owner, ...condition }));
  }

  #delete(store: EmbeddedStore): Promise<unknown> {
    const key = this.random.pick(keys);
    return this.#change(key, null, () => store.delete("plain", key, { owner }));
  }

  async #read(store: EmbeddedStore, key = this.random.pick(keys)): Promise<Buffer | undefined> {
    const since = this.now++;
    let bytes: Buffer | undefined;
    const done = await this.#attempt(async () => {
      bytes = await readAll(store, "plain", key, () => this.schedule.turn());
    });
    if (done === undefined) return undefined;
    const digest = bytes === undefined ? null : digestOf(bytes);
    const model = this.plain.get(key) as KeyModel;
    assert.ok(model.allows(digest, since), `a reader of "${key}" saw ${digest}, not one of ${model}`);
    return bytes;
  }

  async #copy(store: EmbeddedStore): Promise<void> {
    const bytes = await this.#read(store);
    if (bytes === undefined) return;
    const target = this.random.pick(keys);
    await this.#change(target, digestOf(bytes), () =>
      store.put("plain", target, this.pieces(bytes), { owner }),
    );
  }

  async #multipart(store: EmbeddedStore, name: string): Promise<void> {
    const key = this.random.pick(keys);
    let id = "";
    if (
      (await this.#attempt(async () => (id = (await store.createUpload("plain", key, { owner })).id))) !==
      true
    )
      return;
    const upload = { key, parts: new Map<number, { etag: string; bytes: Buffer }>() };
    this.uploads.set(id, upload);
    for (let number = 1 + this.random.below(3); number > 0; number -= 1) {
      const bytes = this.body(`${name}p${number}`);
      const part = this.random.chance(0.5) ? bytes : this.pieces(bytes);
      const done = await this.#attempt(async () => {
        const { etag } = await store.putPart("plain", key, id, number, part);
        upload.parts.set(number, { etag, bytes });
      });
      if (done === undefined) return;
    }
    if (this.random.chance(0.7)) await this.#endUpload(store, id);
  }

  async #continueUpload(store: EmbeddedStore, name: string): Promise<void> {
    const id = this.random.pick([...this.uploads.keys()]);
    if (id === undefined) return;
    const upload = this.uploads.get(id);
    if (upload !== undefined && this.random.chance(0.3)) {
      // Another client replaces a part meanwhile: what a completion then takes is either.
      const bytes = this.body(`${name}r`);
      const number = 9;
      await this.#attempt(async () => {
        const { etag } = await store.putPart("plain", upload.key, id, number, bytes);
        upload.parts.set(number, { etag, bytes });
      });
      return;
    }
    await this.#endUpload(store, id);
  }

  async #endUpload(store: EmbeddedStore, id: string): Promise<void> {
    const upload = this.uploads.get(id);
    if (upload === undefined) return;
    this.uploads.delete(id);
    const { key } = upload;
    if (this.random.chance(0.2)) {
      await this.#attempt(() => store.abortUpload("plain", key, id));
      return;
    }
    const numbers = [...upload.parts.keys()].sort((one, other) => one - other);
    const chosen = numbers.filter(() => this.random.chance(0.9));
    if (chosen.length === 0) return;
    const parts = chosen.map((number) => upload.parts.get(number) as { etag: string; bytes: Buffer });
    const digest = digestOf(Buffer.concat(parts.map((part) => part.bytes)));
    const complete = () =>
      store.completeUpload(
        "plain",
        key,
        id,
        chosen.map((number, i) => ({ number, etag: parts[i]?.etag ?? "" })),
      );
    const done = await this.#change(key, digest, complete);
    // A client that did not get the answer asks again: it must not undo what came after.
    if (done === true && this.random.chance(0.3)) await this.#attempt(complete);
  }

  async #tag(store: EmbeddedStore): Promise<void> {
    const key = this.random.pick(keys);
    const tags = { n: String(this.now++) };
    await this.#attempt(() => store.setAttributes("plain", key, undefined, { tags }));
  }

  async #putVersion(store: EmbeddedStore, name: string): Promise<void> {
    const key = this.random.pick(keys);
    const bytes = this.body(name);
    const digest = digestOf(bytes);
    this.kept.tried.add(`${key} ${digest}`);
    await this.#attempt(async () => {
      const { versionId } = await store.put("kept", key, bytes, { owner });
      this.kept.versions.set(versionId, { key, digest, mayBeGone: false, isGone: false });
    });
  }

  async #removeVersion(store: EmbeddedStore): Promise<void> {
    const versionId = this.random.pick([...this.kept.versions.keys()]);
    const version = this.kept.versions.get(versionId);
    if (version === undefined) return;
    const { key } = version;
    if (this.random.chance(0.3)) {
      await this.#attempt(() => store.delete("kept", key, { owner }));
      return;
    }
    const before = version.mayBeGone;
    version.mayBeGone = true;
    const done = await this.#attempt(() => store.delete("kept", key, { owner, versionId }));
    if (done === true) version.isGone = true;
    if (done === false) version.mayBeGone = before;
  }
}

/** An object's bytes; undefined where there is none. */
export async function readAll(
  store: EmbeddedStore,
  bucket: string,
  key: string,
  pause: () => Promise<void>,
  versionId?: string,
): Promise<Buffer | undefined> {
  await using opened = await openIfThere(store, bucket, key, versionId);
  if (opened === undefined || opened.version.deleteMarker) return undefined;
  const pieces: Uint8Array[] = [];
  for await (const piece of opened.read()) {
    await pause();
    pieces.push(piece);
  }
  const bytes = Buffer.concat(pieces);
  assert.equal(bytes.length, opened.version.sizeBytes);
  return bytes;
}

async function openIfThere(store: EmbeddedStore, bucket: string, key: string, versionId: string | undefined) {
  try {
    return await store.open(bucket, key, versionId);
  } catch (error) {
    if (error instanceof SkepError && error.code === "OBJECT_NOT_FOUND") return undefined;
    throw error;
  }
}

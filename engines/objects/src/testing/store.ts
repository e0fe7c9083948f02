import { mkdtemp, rm } from "node:fs/promises";
import { join } from "node:path";
import { type EmbeddedOptions, EmbeddedStore } from "../embedded.ts";
import type { Bytes } from "../types.ts";

export const owner = "owner";

/** A store in a directory of its own; it can be closed, opened again, and is removed in the end. */
export class TestStore implements AsyncDisposable {
  readonly directory: string;
  readonly #parent: string;
  readonly #options: Partial<EmbeddedOptions>;
  readonly log: string[] = [];
  store!: EmbeddedStore;

  private constructor(parent: string, options: Partial<EmbeddedOptions>) {
    this.#parent = parent;
    this.directory = join(parent, "objects");
    this.#options = options;
  }

  /** With the bucket "bucket". */
  static async make(options: Partial<EmbeddedOptions> = {}): Promise<TestStore> {
    const test = new TestStore(await mkdtemp("/tmp/skep-objects-"), options);
    try {
      await test.open();
      await test.store.createBucket("bucket", { owner });
      return test;
    } catch (error) {
      await test[Symbol.asyncDispose]();
      throw error;
    }
  }

  async open(options: Partial<EmbeddedOptions> = {}): Promise<void> {
    this.store = await EmbeddedStore.open({
      directory: this.directory,
      minimumPartBytes: 1,
      synchronous: "normal",
      sweepOnOpen: false,
      log: (message) => this.log.push(message),
      ...this.#options,
      ...options,
    });
  }

  async reopen(options: Partial<EmbeddedOptions> = {}): Promise<void> {
    await this.store.close();
    await this.open(options);
  }

  put(key: string, body: Uint8Array | string | Bytes) {
    return this.store.put("bucket", key, typeof body === "string" ? Buffer.from(body) : body, { owner });
  }

  async read(key: string, versionId?: string): Promise<Buffer> {
    await using opened = await this.store.open("bucket", key, versionId);
    return collect(opened.read());
  }

  async text(key: string, versionId?: string): Promise<string> {
    return (await this.read(key, versionId)).toString();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await (this.store as EmbeddedStore | undefined)?.close();
    await rm(this.#parent, { recursive: true });
  }
}

export async function collect(body: Bytes): Promise<Buffer> {
  const pieces: Uint8Array[] = [];
  for await (const piece of body) pieces.push(piece);
  return Buffer.concat(pieces);
}

export async function* inPieces(bytes: Uint8Array, pieceBytes: number): Bytes {
  for (let at = 0; at < bytes.length; at += pieceBytes) yield bytes.subarray(at, at + pieceBytes);
}

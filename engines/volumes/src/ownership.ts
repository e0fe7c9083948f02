import type { Environment } from "./environment.ts";
import { fail } from "./errors.ts";
import { decodeManifest, encodeManifest, type Manifest, maxManifestBytes } from "./manifest.ts";
import { codeOf, readObject } from "./objects.ts";
import { manifestKey } from "./paths.ts";
import { type Problems, persistently } from "./retry.ts";

/** VOLUME_NOT_FOUND, VOLUME_VERSION, VOLUME_DAMAGED, or what the store says. */
export async function readManifest(
  env: Pick<Environment, "store">,
  id: string,
  signal?: AbortSignal,
): Promise<{ manifest: Manifest; etag: string }> {
  const key = manifestKey(id);
  try {
    const { bytes, etag } = await readObject(env.store, key, { maxBytes: maxManifestBytes + 1, signal });
    return { manifest: decodeManifest(bytes, id, key), etag };
  } catch (error) {
    if (codeOf(error) === "OBJECT_NOT_FOUND") throw fail("VOLUME_NOT_FOUND", { id }, { cause: error });
    throw error;
  }
}

/**
 * Puts a manifest where the present one has that ETag (null: where there is none). Undefined: another one is
 * there. A put whose answer was lost is recognised by its `Commit`.
 */
export async function putManifest(
  env: Pick<Environment, "store">,
  manifest: Manifest,
  etag: string | null,
  signal?: AbortSignal,
): Promise<{ etag: string } | undefined> {
  const id = manifest.VolumeName;
  const condition = etag === null ? { ifNoneMatch: "*" } : { ifMatch: etag };
  const request = signal === undefined ? condition : { ...condition, signal };
  try {
    return await env.store.put(manifestKey(id), encodeManifest(manifest), request);
  } catch (error) {
    const code = codeOf(error);
    if (code !== "PRECONDITION_FAILED" && code !== "OBJECT_NOT_FOUND") throw error;
  }
  const present = await presentManifest(env, id, signal);
  return present?.manifest.Commit === manifest.Commit ? present : undefined;
}

/** Undefined: there is none, or one that is of another version, or nonsense. It is not ours in any case. */
async function presentManifest(
  env: Pick<Environment, "store">,
  id: string,
  signal?: AbortSignal,
): Promise<{ manifest: Manifest; etag: string } | undefined> {
  try {
    return await readManifest(env, id, signal);
  } catch (error) {
    const code = codeOf(error) ?? "";
    if (["VOLUME_NOT_FOUND", "VOLUME_VERSION", "VOLUME_DAMAGED"].includes(code)) return undefined;
    throw error;
  }
}

export function newCommit(env: Pick<Environment, "random">): string {
  return Buffer.from(env.random(12)).toString("hex");
}

/** What an open volume's owner holds: the manifest as it is in the store, until another one has taken it. */
export class Ownership implements Problems {
  readonly #env: Environment;
  readonly #ending = new AbortController();
  #manifest: Manifest;
  #etag: string;
  #isFenced = false;
  problem: { message: string; since: number } | null = null;

  constructor(env: Environment, manifest: Manifest, etag: string) {
    this.#env = env;
    this.#manifest = manifest;
    this.#etag = etag;
  }

  get manifest(): Manifest {
    return this.#manifest;
  }
  get isFenced(): boolean {
    return this.#isFenced;
  }
  /** Aborted when the volume is closed without waiting, or is another host's. */
  get ending(): AbortSignal {
    return this.#ending.signal;
  }

  failed(message: string): void {
    this.problem ??= { message, since: this.#env.clock.now() };
    this.problem.message = message;
  }

  succeeded(): void {
    this.problem = null;
  }

  /** VOLUME_FENCED, VOLUME_CLOSED. */
  check(): void {
    this.#ending.signal.throwIfAborted();
  }

  end(reason: unknown): void {
    this.#ending.abort(reason);
  }

  /** Goes on until the store has answered. */
  persist<T>(work: () => Promise<T>, isFinal?: (error: unknown) => boolean): Promise<T> {
    return persistently(work, {
      clock: this.#env.clock,
      signal: this.ending,
      problems: this,
      ...(isFinal === undefined ? {} : { isFinal }),
    });
  }

  /** Replaces the manifest, if it is still this owner's: VOLUME_FENCED. One at a time. */
  async swap(change: Partial<Manifest>): Promise<void> {
    this.check();
    const next = { ...this.#manifest, ...change, Commit: newCommit(this.#env) };
    const put = await this.persist(() => putManifest(this.#env, next, this.#etag, this.ending));
    if (put === undefined) throw this.#fenced();
    this.#manifest = next;
    this.#etag = put.etag;
  }

  /** Asks the store whether the volume is still this owner's: VOLUME_FENCED. Not during a `swap`. */
  async confirm(): Promise<void> {
    this.check();
    const { VolumeName, Commit } = this.#manifest;
    const present = await this.persist(() => presentManifest(this.#env, VolumeName, this.ending));
    if (present?.manifest.Commit !== Commit) throw this.#fenced();
  }

  #fenced(): Error {
    this.#isFenced = true;
    const fenced = fail("VOLUME_FENCED", { id: this.#manifest.VolumeName });
    this.end(fenced);
    return fenced;
  }
}

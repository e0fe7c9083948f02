import { randomBytes } from "node:crypto";
import type { ObjectStore } from "@skep/objects";
import { fail } from "../errors.ts";
import { decodeManifest, encodeManifest, type Manifest, maxManifestBytes } from "./manifest.ts";
import { manifestKey } from "./paths.ts";
import { getWhole, isMissing, isRefused, type Patience, patiently } from "./store-access.ts";

/** A manifest, and the ETag that it has in the store. */
export interface KeptManifest {
  manifest: Manifest;
  etag: string;
}

/** VOLUME_NOT_FOUND, VOLUME_DAMAGED, VOLUME_VERSION. */
export async function readManifest(
  store: ObjectStore,
  id: string,
  key: string = manifestKey(id),
  signal?: AbortSignal,
): Promise<KeptManifest> {
  try {
    const { bytes, etag } = await getWhole(store, key, maxManifestBytes, signal);
    return { manifest: decodeManifest(bytes, id, key), etag };
  } catch (error) {
    if (isMissing(error)) throw fail("VOLUME_NOT_FOUND", { id }, { cause: error });
    if (error instanceof RangeError) {
      throw fail("VOLUME_DAMAGED", { id, object: key, why: error.message }, { cause: error });
    }
    throw error;
  }
}

/** A word that no other swap has: by it one recognises a swap whose answer was lost. */
export function commitWord(random: (bytes: number) => Uint8Array = randomBytes): string {
  return Buffer.from(random(12)).toString("hex");
}

/**
 * Replaces a manifest by compare-and-swap. Undefined where somebody else has changed it. A lost answer is
 * asked after, so that what is returned is what happened.
 */
export async function swapManifest(
  store: ObjectStore,
  key: string,
  before: KeptManifest,
  manifest: Manifest,
  patience: Patience,
): Promise<KeptManifest | undefined> {
  const body = encodeManifest(manifest);
  if (body.length > maxManifestBytes) {
    const why = `with ${body.length} bytes it would be too large (${manifest.Snapshots.length} snapshots)`;
    throw fail("VOLUME_DAMAGED", { id: manifest.VolumeName, object: key, why });
  }
  try {
    const { etag } = await patiently(patience, () =>
      store.put(key, body, { ifMatch: before.etag, sizeBytes: body.length, signal: patience.signal }),
    );
    return { manifest, etag };
  } catch (error) {
    if (!isRefused(error) && !isMissing(error)) throw error;
  }
  try {
    const now = await patiently(patience, () =>
      readManifest(store, manifest.VolumeName, key, patience.signal),
    );
    return now.manifest.Commit === manifest.Commit ? now : undefined;
  } catch (error) {
    if ((error as { code?: string }).code === "VOLUME_NOT_FOUND") return undefined;
    throw error;
  }
}

/** The manifest of a volume that is open here. Its owner changes it one change at a time. */
export class ManifestKeeper {
  readonly #store: ObjectStore;
  readonly #random: (bytes: number) => Uint8Array;
  readonly #patience: Patience;
  #kept: KeptManifest;

  constructor(
    kept: KeptManifest,
    given: { store: ObjectStore; random: (bytes: number) => Uint8Array; patience: Patience },
  ) {
    this.#kept = kept;
    this.#store = given.store;
    this.#random = given.random;
    this.#patience = given.patience;
  }

  get manifest(): Manifest {
    return this.#kept.manifest;
  }

  /** VOLUME_FENCED where the volume is another's by now: nothing was changed then, and nothing will be. */
  async swap(change: Partial<Manifest>): Promise<void> {
    const next = { ...this.#kept.manifest, ...change, Commit: commitWord(this.#random) };
    const id = next.VolumeName;
    const kept = await swapManifest(this.#store, manifestKey(id), this.#kept, next, this.#patience);
    if (kept === undefined) throw fail("VOLUME_FENCED", { id });
    this.#kept = kept;
  }
}

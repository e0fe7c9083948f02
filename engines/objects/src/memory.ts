import { createHash, hash, randomUUID } from "node:crypto";
import { fail } from "./errors.ts";
import { checkKey } from "./keys.ts";
import type {
  ByteRange,
  Bytes,
  Condition,
  Listing,
  ListRequest,
  MultipartUpload,
  ObjectInfo,
  ObjectStore,
  PutRequest,
  StoredObject,
} from "./types.ts";
import { clampRange } from "./versions.ts";

interface Entry extends ObjectInfo {
  bytes: Uint8Array;
  metadata: Record<string, string>;
}

interface Part {
  bytes: Uint8Array;
  etag: string;
}

export interface MemoryOptions {
  /** Milliseconds since 1970. */
  clock?: () => number;
  /** Of every part but the last; 5 MiB without. */
  minimumPartBytes?: number;
}

const bucket = "memory";
const pieceBytes = 65_536;

/** A bucket that is forgotten with the process: for tests, and the model of what the others must do. */
export class MemoryStore implements ObjectStore {
  readonly #objects = new Map<string, Entry>();
  readonly #clock: () => number;
  readonly #minimumPartBytes: number;

  constructor({ clock = Date.now, minimumPartBytes = 5 * 1024 * 1024 }: MemoryOptions = {}) {
    this.#clock = clock;
    this.#minimumPartBytes = minimumPartBytes;
  }

  async get(
    key: string,
    options: { range?: Partial<ByteRange>; ifMatch?: string; signal?: AbortSignal } = {},
  ): Promise<StoredObject> {
    options.signal?.throwIfAborted();
    const entry = this.#entry(key);
    checkCondition(key, entry, options.ifMatch === undefined ? {} : { ifMatch: options.ifMatch });
    const range = clampRange(options.range, key, entry.sizeBytes);
    const body = inPieces(entry.bytes.subarray(range.start, range.end), options.signal);
    return { ...info(entry), metadata: { ...entry.metadata }, range, body };
  }

  async head(
    key: string,
    options: { signal?: AbortSignal } = {},
  ): Promise<ObjectInfo & { metadata: Record<string, string> }> {
    options.signal?.throwIfAborted();
    const entry = this.#entry(key);
    return { ...info(entry), metadata: { ...entry.metadata } };
  }

  async put(key: string, body: Uint8Array | Bytes, request: PutRequest = {}): Promise<ObjectInfo> {
    const { metadata = {}, sizeBytes, signal, ...condition } = request;
    const name = checkKey(key);
    const bytes = await collect(name, body, sizeBytes, signal);
    checkCondition(name, this.#objects.get(name), condition);
    return this.#set(name, bytes, hash("md5", bytes, "hex"), metadata);
  }

  async delete(key: string, request: Condition & { signal?: AbortSignal } = {}): Promise<void> {
    const { signal, ...condition } = request;
    signal?.throwIfAborted();
    checkCondition(key, this.#objects.get(key), condition);
    this.#objects.delete(key);
  }

  async list(request: ListRequest = {}): Promise<Listing> {
    request.signal?.throwIfAborted();
    const { prefix = "", delimiter, limit = 1000 } = request;
    const after = request.continuation ?? request.startAfter ?? "";
    const done = after === "" ? undefined : groupOf(after, prefix, delimiter);
    const listing: Listing = { objects: [], prefixes: [] };
    let last: string | undefined;
    for (const key of [...this.#objects.keys()].filter((one) => one.startsWith(prefix)).sort(byBytes)) {
      const group = groupOf(key, prefix, delimiter);
      if (byBytes(key, after) <= 0 || (group !== undefined && (group === done || group === last))) continue;
      if (listing.objects.length + listing.prefixes.length >= limit) {
        return last === undefined ? listing : { ...listing, next: last };
      }
      if (group === undefined) listing.objects.push(info(this.#entry(key)));
      else listing.prefixes.push(group);
      last = group ?? key;
    }
    return listing;
  }

  async createUpload(
    key: string,
    { metadata = {} }: { metadata?: Record<string, string> } = {},
  ): Promise<MultipartUpload> {
    const name = checkKey(key);
    const id = randomUUID();
    const parts = new Map<number, Part>();
    let completed: ObjectInfo | undefined;
    let isAborted = false;
    const open = () => {
      if (isAborted || completed !== undefined) throw fail("UPLOAD_NOT_FOUND", { id, key: name });
    };
    return {
      id,
      putPart: async (number, body, { sizeBytes, signal } = {}) => {
        open();
        const bytes = await collect(name, body, sizeBytes, signal);
        open();
        const etag = hash("md5", bytes, "hex");
        parts.set(number, { bytes, etag });
        return { etag };
      },
      complete: async (wanted, condition = {}) => {
        if (completed !== undefined) return completed;
        open();
        const chosen = this.#choose(id, parts, wanted);
        checkCondition(name, this.#objects.get(name), condition);
        const digest = createHash("md5");
        for (const { etag } of chosen) digest.update(etag, "hex");
        const whole = Buffer.concat(chosen.map(({ bytes }) => bytes));
        completed = this.#set(name, whole, `${digest.digest("hex")}-${chosen.length}`, metadata);
        parts.clear();
        return completed;
      },
      abort: async () => {
        open();
        isAborted = true;
        parts.clear();
      },
    };
  }

  #choose(id: string, parts: ReadonlyMap<number, Part>, wanted: { number: number; etag: string }[]): Part[] {
    if (wanted.length === 0) throw fail("PART_INVALID", { id, number: 1 });
    if (wanted.some(({ number }, at) => number <= (wanted[at - 1]?.number ?? 0))) {
      throw fail("PART_ORDER", { id });
    }
    const chosen = wanted.map(({ number, etag }) => {
      const part = parts.get(number);
      if (part?.etag !== etag) throw fail("PART_INVALID", { id, number });
      return { number, ...part };
    });
    const minimum = this.#minimumPartBytes;
    const small = chosen.slice(0, -1).find(({ bytes }) => bytes.length < minimum);
    if (small === undefined) return chosen;
    const { number, bytes } = small;
    throw fail("PART_TOO_SMALL", { id, number, sizeBytes: bytes.length, minimum });
  }

  #entry(key: string): Entry {
    const entry = this.#objects.get(checkKey(key));
    if (entry === undefined) throw fail("OBJECT_NOT_FOUND", { bucket, key });
    return entry;
  }

  #set(key: string, bytes: Uint8Array, etag: string, metadata: Record<string, string>): ObjectInfo {
    const modifiedAt = this.#clock();
    const entry = { key, sizeBytes: bytes.length, etag, modifiedAt, bytes, metadata: { ...metadata } };
    this.#objects.set(key, entry);
    return info(entry);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#objects.clear();
  }
}

function info({ key, sizeBytes, etag, modifiedAt }: Entry): ObjectInfo {
  return { key, sizeBytes, etag, modifiedAt };
}

function byBytes(a: string, b: string): number {
  return Buffer.compare(Buffer.from(a), Buffer.from(b));
}

function groupOf(key: string, prefix: string, delimiter: string | undefined): string | undefined {
  if (delimiter === undefined || delimiter === "" || !key.startsWith(prefix)) return undefined;
  const at = key.indexOf(delimiter, prefix.length);
  return at < 0 ? undefined : key.slice(0, at + delimiter.length);
}

function checkCondition(key: string, entry: Entry | undefined, condition: Condition): void {
  const { ifMatch, ifNoneMatch, ifModifiedAt, ifSizeBytes } = condition;
  const failed = (why: string) => fail("PRECONDITION_FAILED", { bucket, key, why });
  if (entry === undefined) {
    if (ifMatch === undefined && ifModifiedAt === undefined && ifSizeBytes === undefined) return;
    throw fail("OBJECT_NOT_FOUND", { bucket, key });
  }
  const second = (time: number) => Math.floor(time / 1000);
  if (ifMatch !== undefined && ifMatch !== "*" && ifMatch !== entry.etag) throw failed("its ETag is another");
  if (ifNoneMatch === "*" || ifNoneMatch === entry.etag) throw failed("it exists");
  if (ifModifiedAt !== undefined && second(ifModifiedAt) !== second(entry.modifiedAt)) {
    throw failed("it was modified at another time");
  }
  if (ifSizeBytes !== undefined && ifSizeBytes !== entry.sizeBytes) throw failed("it has another size");
}

/** A copy of the whole body. BODY_SIZE. */
async function collect(
  key: string,
  body: Uint8Array | Bytes,
  declared: number | undefined,
  signal: AbortSignal | undefined,
): Promise<Uint8Array> {
  const pieces: Uint8Array[] = [];
  signal?.throwIfAborted();
  for await (const piece of body instanceof Uint8Array ? [body] : body) {
    signal?.throwIfAborted();
    pieces.push(piece);
  }
  const bytes = Buffer.concat(pieces);
  if (declared !== undefined && bytes.length !== declared) {
    throw fail("BODY_SIZE", { key, declared, received: bytes.length });
  }
  return bytes;
}

async function* inPieces(bytes: Uint8Array, signal: AbortSignal | undefined): Bytes {
  for (let at = 0; at < bytes.length; at += pieceBytes) {
    signal?.throwIfAborted();
    yield Uint8Array.from(bytes.subarray(at, at + pieceBytes));
  }
}

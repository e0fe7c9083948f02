import type { ObjectStore } from "@skep/objects";

export function codeOf(error: unknown): string | undefined {
  const { code } = (error ?? {}) as { code?: unknown };
  return typeof code === "string" ? code : undefined;
}

/** All of an object, and not less: a body that ends too early is a failure of the connection. */
export async function readObject(
  store: ObjectStore,
  key: string,
  options: { maxBytes: number; signal?: AbortSignal | undefined },
): Promise<{ bytes: Buffer; etag: string }> {
  const { signal, maxBytes } = options;
  const { body, sizeBytes, etag } = await store.get(key, signal === undefined ? {} : { signal });
  const pieces: Uint8Array[] = [];
  let length = 0;
  for await (const piece of body) {
    pieces.push(piece);
    length += piece.length;
    if (length > maxBytes) break;
  }
  if (length < Math.min(sizeBytes, maxBytes)) {
    const message = `the object store sent ${length} of ${sizeBytes} bytes of "${key}"`;
    throw Object.assign(new Error(message), { code: "ECONNRESET" });
  }
  return { bytes: Buffer.concat(pieces), etag };
}

/** All keys below a prefix, with sizes. */
export async function* listObjects(
  store: ObjectStore,
  prefix: string,
  signal?: AbortSignal,
): AsyncGenerator<{ key: string; sizeBytes: number }> {
  let continuation: string | undefined;
  do {
    const page = await store.list({
      prefix,
      ...(continuation === undefined ? {} : { continuation }),
      ...(signal === undefined ? {} : { signal }),
    });
    yield* page.objects;
    continuation = page.next;
  } while (continuation !== undefined);
}

/** Does it for each, so many at the same time. */
export async function inParallel<T>(
  items: Iterable<T>,
  width: number,
  work: (item: T) => Promise<void>,
): Promise<void> {
  const iterator = items[Symbol.iterator]();
  const failures: unknown[] = [];
  const worker = async () => {
    for (let next = iterator.next(); next.done !== true && failures.length === 0; next = iterator.next()) {
      try {
        await work(next.value);
      } catch (error) {
        failures.push(error);
      }
    }
  };
  await Promise.all(Array.from({ length: width }, worker));
  if (failures.length > 0) throw failures[0];
}

import type { Attributes, Condition, ObjectVersion } from "@skep/objects";
import type { IncomingBody, S3Request } from "../context.ts";

/** Up to here a body is taken whole: one buffer costs less than a stream. */
const wholeBytes = 128 * 1024;

/** Stores a body under a key once all of its digests are compared. */
export async function storeObject(
  request: S3Request,
  key: string,
  body: IncomingBody,
  put: { owner: string; attributes: Attributes; condition?: Condition | undefined },
): Promise<ObjectVersion> {
  const { sizeBytes } = body;
  return request.store.put(request.bucketName, key, await contentOf(body), {
    owner: put.owner,
    attributes: put.attributes,
    ...(put.condition === undefined ? {} : { condition: put.condition }),
    ...(sizeBytes === undefined ? {} : { sizeBytes }),
    verify({ md5 }) {
      const checksum = body.verify(md5);
      return checksum === undefined ? undefined : { checksum };
    },
    signal: request.signal,
  });
}

/** A body as the store takes it. */
export function contentOf(body: IncomingBody): Promise<Uint8Array> | IncomingBody["bytes"] {
  return body.sizeBytes !== undefined && body.sizeBytes <= wholeBytes ? body.whole() : body.bytes;
}

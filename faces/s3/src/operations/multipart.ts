import { newObjectOwner } from "../access/new-resources.ts";
import { createChecksum } from "../checksums.ts";
import type { S3Request, S3Response } from "../context.ts";
import { checksumHeaders, newAttributes } from "../object-headers.ts";
import { document, tag } from "../xml.ts";
import { copyResult, passing } from "./copy-object.ts";
import { copySourceOf, openSource, sourceRange } from "./copy-source.ts";
import { uploadForAction } from "./existing.ts";
import { integerOf } from "./parameters.ts";
import { contentOf } from "./store-object.ts";
import { uploadChecksum } from "./upload-checksum.ts";

const maxPartNumber = 10_000;

export async function createMultipartUpload(request: S3Request): Promise<S3Response> {
  const attributes = newAttributes(request, request.bucket);
  const checksum = uploadChecksum(request);
  const upload = await request.store.createUpload(request.bucketName, request.key, {
    owner: newObjectOwner(request, request.bucket),
    attributes,
    ...(checksum === undefined ? {} : { checksum }),
  });
  return {
    headers:
      checksum === undefined
        ? {}
        : { "x-amz-checksum-algorithm": checksum.algorithm, "x-amz-checksum-type": checksum.type },
    body: document(
      "InitiateMultipartUploadResult",
      tag("Bucket", request.bucketName),
      tag("Key", request.key),
      tag("UploadId", upload.id),
    ),
  };
}

export async function uploadPart(request: S3Request): Promise<S3Response> {
  const { bucketName, key, store } = request;
  const number = integerOf(request, "partNumber", 1, maxPartNumber);
  const id = request.query.get("uploadId") ?? "";
  const upload = await store.upload(bucketName, key, id);
  const body = request.body(upload.checksum === undefined ? {} : { checksum: upload.checksum.algorithm });
  let checksum: ReturnType<typeof body.verify>;
  const part = await store.putPart(bucketName, key, id, number, await contentOf(body), {
    ...(body.sizeBytes === undefined ? {} : { sizeBytes: body.sizeBytes }),
    verify({ md5 }) {
      checksum = body.verify(md5);
      // One of another kind than the upload's is compared, and of no use afterwards.
      return checksum?.algorithm === upload.checksum?.algorithm && checksum !== undefined
        ? { checksum: checksum.value }
        : undefined;
    },
    signal: request.signal,
  });
  const { "x-amz-checksum-type": _, ...headers } = checksumHeaders(checksum);
  return { headers: { etag: `"${part.etag}"`, ...headers } };
}

export async function uploadPartCopy(request: S3Request): Promise<S3Response> {
  const { bucketName, key, store } = request;
  const number = integerOf(request, "partNumber", 1, maxPartNumber);
  const id = request.query.get("uploadId") ?? "";
  const source = copySourceOf(request);
  const upload = await store.upload(bucketName, key, id);
  await using open = await openSource(request, source);
  const range = sourceRange(request, open.version.sizeBytes);
  const algorithm = upload.checksum?.algorithm;
  const checksum = algorithm === undefined ? undefined : createChecksum(algorithm);
  const part = await store.putPart(
    bucketName,
    key,
    id,
    number,
    passing(open.read(range, { signal: request.signal }), (piece) => checksum?.update(piece)),
    {
      sizeBytes: range.end - range.start,
      verify: () => (checksum === undefined ? undefined : { checksum: checksum.digest() }),
      signal: request.signal,
    },
  );
  const { versioning } = await store.bucket(source.bucket);
  return {
    headers: versioning === "off" ? {} : { "x-amz-copy-source-version-id": open.version.versionId },
    body: document(
      "CopyPartResult",
      copyResult(part),
      algorithm === undefined ? "" : tag(`Checksum${algorithm}`, part.checksum),
    ),
  };
}

export async function abortMultipartUpload(request: S3Request): Promise<S3Response> {
  const { bucket, key, id } = await uploadForAction(request, "s3:AbortMultipartUpload");
  await request.store.abortUpload(bucket, key, id);
  return { status: 204 };
}

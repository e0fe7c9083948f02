import type { Attributes, Bytes, ObjectVersion } from "@skep/objects";
import { newObjectOwner } from "../access/new-resources.ts";
import { maxPutBytes } from "../body.ts";
import { createChecksum } from "../checksums.ts";
import { writeCondition } from "../conditions.ts";
import type { S3Request, S3Response } from "../context.ts";
import { parseAlgorithm } from "../digests.ts";
import { fail } from "../errors.ts";
import { createdHeaders, newAttributes } from "../object-headers.ts";
import { document, isoTime, tag } from "../xml.ts";
import { type CopySource, copySourceOf, openSource } from "./copy-source.ts";

/** How headers may differ from the source's though its metadata are kept. */
const changing = ["x-amz-storage-class", "x-amz-website-redirect-location"];

export async function copyObject(request: S3Request): Promise<S3Response> {
  const source = copySourceOf(request);
  const replaced = newAttributes(request, request.bucket);
  const metadata = directive(request, "x-amz-metadata-directive");
  const tagging = directive(request, "x-amz-tagging-directive");
  await using open = await openSource(request, source);
  const { version } = open;
  if (metadata === "COPY" && isUnchanged(request, source, version)) {
    throw fail("InvalidRequest", {
      why: "This copy request is illegal because it is trying to copy an object to itself without changing the object's metadata, storage class, website redirect location or encryption attributes.",
    });
  }
  if (version.sizeBytes > maxPutBytes) {
    throw fail("InvalidRequest", {
      why: `The specified copy source is larger than the maximum allowable size for a copy source: ${maxPutBytes}`,
    });
  }
  const algorithm =
    parseAlgorithm(textOf(request, "x-amz-checksum-algorithm")) ?? version.attributes.checksum?.algorithm;
  const checksum = algorithm === undefined ? undefined : createChecksum(algorithm);
  const object = await request.store.put(
    request.bucketName,
    request.key,
    passing(open.read(undefined, { signal: request.signal }), (piece) => checksum?.update(piece)),
    {
      owner: newObjectOwner(request, request.bucket),
      attributes: copiedAttributes(version.attributes, replaced, { metadata, tagging }),
      condition: writeCondition(request.headers) ?? {},
      sizeBytes: version.sizeBytes,
      verify: () =>
        checksum === undefined || algorithm === undefined
          ? undefined
          : { checksum: { algorithm, value: checksum.digest(), type: "FULL_OBJECT" } },
      signal: request.signal,
    },
  );
  const sourceVersioning = (await request.store.bucket(source.bucket)).versioning;
  const { etag: _, ...headers } = createdHeaders(request, object);
  return {
    headers: {
      ...headers,
      ...(sourceVersioning === "off" ? {} : { "x-amz-copy-source-version-id": version.versionId }),
    },
    body: document("CopyObjectResult", copyResult(object)),
  };
}

/** What the answer to a copy says of what it made. */
export function copyResult(made: { etag: string; modifiedAt: number; attributes?: Attributes }): string {
  const checksum = made.attributes?.checksum;
  return [
    tag("LastModified", isoTime(made.modifiedAt)),
    tag("ETag", `"${made.etag}"`),
    checksum === undefined ? "" : tag(`Checksum${checksum.algorithm}`, checksum.value),
    tag("ChecksumType", checksum?.type),
  ].join("");
}

type Directive = "COPY" | "REPLACE";

function directive(request: S3Request, header: string): Directive {
  const text = textOf(request, header)?.toUpperCase() ?? "COPY";
  if (text === "COPY" || text === "REPLACE") return text;
  throw fail("InvalidArgument", {
    why: `Unknown ${header === "x-amz-metadata-directive" ? "metadata" : "tagging"} directive.`,
    ArgumentName: header,
    ArgumentValue: text,
  });
}

function textOf(request: S3Request, header: string): string | undefined {
  const value = request.headers[header];
  return typeof value === "string" ? value : undefined;
}

function isUnchanged(request: S3Request, source: CopySource, version: ObjectVersion): boolean {
  return (
    source.bucket === request.bucketName &&
    source.key === request.key &&
    (source.versionId === undefined || version.isLatest) &&
    changing.every((name) => request.headers[name] === undefined)
  );
}

/** Class, redirect and ACL are never the source's. */
function copiedAttributes(
  source: Attributes,
  replaced: Attributes,
  { metadata, tagging }: { metadata: Directive; tagging: Directive },
): Attributes {
  const tags = tagging === "COPY" ? source.tags : replaced.tags;
  const own: Record<string, string> = {};
  for (const name of changing) {
    const value = replaced.headers?.[name];
    if (value !== undefined) own[name] = value;
  }
  const kept = Object.fromEntries(
    Object.entries(source.headers ?? {}).filter(([name]) => !changing.includes(name)),
  );
  return {
    headers: metadata === "COPY" ? { ...kept, ...own } : (replaced.headers ?? {}),
    metadata: (metadata === "COPY" ? source.metadata : replaced.metadata) ?? {},
    ...(tags === undefined ? {} : { tags }),
    ...(replaced.acl === undefined ? {} : { acl: replaced.acl }),
  };
}

/** Shows each piece to `see` on its way. */
export async function* passing(bytes: Bytes, see: (piece: Uint8Array) => void): AsyncGenerator<Uint8Array> {
  for await (const piece of bytes) {
    see(piece);
    yield piece;
  }
}

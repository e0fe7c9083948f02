import type { ObjectVersion } from "@skep/objects";
import type { S3Request, S3Response } from "../context.ts";
import { fail } from "../errors.ts";
import { ownerNames, ownerXml } from "../owners.ts";
import { document, isoTime, nest, tag } from "../xml.ts";
import { objectXml } from "./list-objects.ts";
import { keyEncoding, pageSize } from "./parameters.ts";

export async function listObjectVersions(request: S3Request): Promise<S3Response> {
  const { query } = request;
  const limit = pageSize(request, "max-keys");
  const prefix = query.get("prefix") ?? "";
  const delimiter = query.get("delimiter") ?? "";
  const keyMarker = query.get("key-marker") ?? "";
  const versionMarker = query.get("version-id-marker") ?? "";
  if (versionMarker !== "" && keyMarker === "") {
    throw fail("InvalidArgument", {
      why: "A version-id marker cannot be specified without a key marker.",
      ArgumentName: "version-id-marker",
      ArgumentValue: versionMarker,
    });
  }
  const page =
    limit === 0
      ? { versions: [], prefixes: [], truncated: false }
      : await request.store.listVersions(request.bucketName, {
          prefix,
          ...(delimiter === "" ? {} : { delimiter }),
          ...(keyMarker === "" ? {} : { keyMarker }),
          ...(versionMarker === "" ? {} : { versionMarker }),
          limit,
        });
  const { encode, type } = keyEncoding(request);
  const name = ownerNames(request.service);
  let entries = "";
  for (const version of page.versions) entries += versionXml(version, encode, name(version.owner));
  for (const one of page.prefixes) entries += nest("CommonPrefixes", tag("Prefix", encode(one)));
  return {
    body: document(
      "ListVersionsResult",
      tag("Name", request.bucketName),
      tag("Prefix", encode(prefix)),
      tag("KeyMarker", encode(keyMarker)),
      tag("VersionIdMarker", versionMarker),
      page.nextKeyMarker === undefined ? "" : tag("NextKeyMarker", encode(page.nextKeyMarker)),
      tag("NextVersionIdMarker", page.nextVersionMarker),
      tag("MaxKeys", limit),
      delimiter === "" ? "" : tag("Delimiter", encode(delimiter)),
      tag("EncodingType", type),
      tag("IsTruncated", page.truncated),
      entries,
    ),
  };
}

function versionXml(version: ObjectVersion, encode: (key: string) => string, ownerName: string): string {
  const common = tag("VersionId", version.versionId) + tag("IsLatest", version.isLatest);
  const owner = ownerXml(version.owner, ownerName);
  if (!version.deleteMarker) return nest("Version", objectXml(version, encode), common, owner);
  return nest(
    "DeleteMarker",
    tag("Key", encode(version.key)),
    common,
    tag("LastModified", isoTime(version.modifiedAt)),
    owner,
  );
}

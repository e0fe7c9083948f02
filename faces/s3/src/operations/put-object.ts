import { newObjectOwner } from "../access/new-resources.ts";
import { writeCondition } from "../conditions.ts";
import type { S3Request, S3Response } from "../context.ts";
import { createdHeaders, newAttributes } from "../object-headers.ts";
import { storeObject } from "./store-object.ts";

export async function putObject(request: S3Request): Promise<S3Response> {
  const object = await storeObject(request, request.key, request.body(), {
    owner: newObjectOwner(request, request.bucket),
    attributes: newAttributes(request, request.bucket),
    condition: writeCondition(request.headers),
  });
  return { headers: createdHeaders(request, object) };
}

import type { S3Request } from "../context.ts";

/** The tags of the `x-amz-tagging` header (`a=1&b=2`). InvalidTag, InvalidArgument. */
export function tagsFromHeader(_request: S3Request): Record<string, string> | undefined {
  return undefined;
}

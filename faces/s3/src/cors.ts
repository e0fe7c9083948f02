import type { IncomingHttpHeaders } from "node:http";
import type { Bucket } from "@skep/objects";

/** The headers by which a browser lets a page read an answer; none where no rule allows its origin. */
export function corsHeaders(
  _bucket: Bucket,
  _method: string,
  _headers: IncomingHttpHeaders,
): Record<string, string> | undefined {
  return undefined;
}

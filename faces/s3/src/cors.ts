/** Cross-origin requests: the preflight, and the headers on every answer. Source: Fetch standard, "CORS protocol". */
import type { IncomingHttpHeaders } from "node:http";
import type { Bucket } from "@skep/objects";
import { type CorsRule, corsRulesOf } from "./configuration/cors-rules.ts";
import type { S3Request, S3Response } from "./context.ts";
import { fail } from "./errors.ts";

/** The headers by which a browser lets a page read an answer; none where no rule allows its origin. */
export function corsHeaders(
  bucket: Bucket,
  method: string,
  headers: IncomingHttpHeaders,
): Record<string, string> | undefined {
  const { origin } = headers;
  // A preflight is answered by itself alone.
  const rules = origin === undefined || method === "OPTIONS" ? undefined : corsRulesOf(bucket);
  if (rules === undefined) return undefined;
  const asked = headers["access-control-request-method"] ?? method;
  const rule = rules.find((one) => allows(one, origin!, asked, []));
  return rule && answer(rule, origin!, asked);
}

/** OPTIONS: whether a page of that origin may send such a request. Needs no signature. */
export async function preflight(request: S3Request): Promise<S3Response> {
  const { headers } = request;
  const { origin } = headers;
  const method = headers["access-control-request-method"];
  if (origin === undefined) {
    throw fail("BadRequest", { why: "Insufficient information. Origin request header needed." });
  }
  if (method === undefined || !/^[A-Z]+$/.test(method)) {
    throw fail("BadRequest", { why: `Invalid Access-Control-Request-Method: ${method ?? "null"}` });
  }
  const rules = corsRulesOf(request.bucket);
  if (rules === undefined) throw forbidden("CORSResponse: CORS is not enabled for this bucket.", method);
  const names = listOf(headers["access-control-request-headers"]);
  const rule = rules.find((one) => allows(one, origin, method, names));
  if (rule === undefined) {
    throw forbidden(
      "CORSResponse: This CORS request is not allowed. The origin, the method or a header fits no rule of the bucket.",
      method,
    );
  }
  return {
    headers: {
      ...answer(rule, origin, method),
      ...(names.length === 0 ? {} : { "access-control-allow-headers": names.join(", ") }),
      "content-length": "0",
    },
  };
}

function forbidden(why: string, method: string) {
  return fail("AccessForbidden", { why, Method: method, ResourceType: "BUCKET" });
}

function answer(rule: CorsRule, origin: string, method: string): Record<string, string> {
  const anyone = rule.origins.includes("*");
  return {
    "access-control-allow-origin": anyone ? "*" : origin,
    ...(anyone ? {} : { "access-control-allow-credentials": "true" }),
    "access-control-allow-methods": method,
    ...(rule.expose.length === 0 ? {} : { "access-control-expose-headers": rule.expose.join(", ") }),
    ...(rule.maxAgeSeconds === undefined ? {} : { "access-control-max-age": String(rule.maxAgeSeconds) }),
    vary: "Origin, Access-Control-Request-Headers, Access-Control-Request-Method",
  };
}

function allows(rule: CorsRule, origin: string, method: string, names: readonly string[]): boolean {
  return (
    rule.methods.includes(method) &&
    rule.origins.some((pattern) => fits(pattern, origin)) &&
    names.every((name) => rule.headers.some((pattern) => fits(pattern.toLowerCase(), name)))
  );
}

/** The pattern has at most one `*`, for any run of characters. */
function fits(pattern: string, text: string): boolean {
  const star = pattern.indexOf("*");
  if (star < 0) return pattern === text;
  const [before, after] = [pattern.slice(0, star), pattern.slice(star + 1)];
  return text.length >= pattern.length - 1 && text.startsWith(before) && text.endsWith(after);
}

function listOf(header: string | string[] | undefined): string[] {
  return String(header ?? "")
    .toLowerCase()
    .split(",")
    .map((name) => name.trim())
    .filter((name) => name !== "");
}

import { hash } from "node:crypto";
import { SkepError } from "@skep/base";
import { type RequestShape, signRequest, type VerifyOptions } from "./index.ts";

/** The credentials, time and requests of the examples in the S3 API reference. */
export const accessKeyId = "AKIAIOSFODNN7EXAMPLE";
export const secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
export const now = Date.UTC(2013, 4, 24);
export const host = "examplebucket.s3.amazonaws.com";
export const emptySha256 = hash("sha256", "", "hex");
export const region = "us-east-1";

export const credentials = { accessKeyId, secret };
export const options: VerifyOptions<{ secret: string }> = {
  lookup: (id) => (id === accessKeyId ? { secret } : undefined),
  now,
};

export function signed(request: RequestShape, payload?: string, at = now): RequestShape {
  const { headers } = signRequest(request, credentials, {
    region,
    now: at,
    ...(payload === undefined ? {} : { payload }),
  });
  return { ...request, headers: { ...request.headers, ...headers } };
}

export const welcome = hash("sha256", "Welcome to Amazon S3.", "hex");

/** The code of the error that comes of it. */
export function codeOf(act: () => unknown): string {
  try {
    act();
  } catch (error) {
    if (error instanceof SkepError) return error.code;
    throw error;
  }
  return "none";
}

import { createHash } from "node:crypto";
import { signRequest } from "@skep/sigv4";
import type { TestServer, TestUser } from "./test-server.ts";

export interface TestResponse {
  status: number;
  headers: Headers;
  text: string;
  /** S3's error code, where the answer is an error. */
  code: string | undefined;
}

/** Sends one request, signed by the user, or by nobody. */
export async function send(
  server: TestServer,
  user: TestUser | undefined,
  method: string,
  target: string,
  {
    headers = {},
    body,
    region = "us-east-1",
  }: { headers?: Record<string, string>; body?: string | Uint8Array | FormData; region?: string } = {},
): Promise<TestResponse> {
  const added =
    user === undefined || body instanceof FormData
      ? {}
      : signRequest({ method, target, headers: { ...headers, host: `127.0.0.1:${server.port}` } }, user, {
          region,
          now: Date.now(),
          payload: createHash("sha256")
            .update(body ?? "")
            .digest("hex"),
        }).headers;
  const response = await fetch(server.url + target, {
    method,
    headers: { ...headers, ...added },
    redirect: "manual",
    ...(body === undefined ? {} : { body }),
  });
  const text = await response.text();
  return {
    status: response.status,
    headers: response.headers,
    text,
    code: /<Code>(\w+)<\/Code>/.exec(text)?.[1],
  };
}

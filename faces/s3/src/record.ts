import type { S3Response } from "./context.ts";
import type { S3Error } from "./errors.ts";
import type { IncomingRequest } from "./incoming.ts";

/** One request as the access log has it. Source: "Amazon S3 server access log format". */
export interface RequestRecord {
  requestId: string;
  /** `PutObject`; empty where the request was not understood. */
  operation: string;
  method: string;
  /** The request line's target; a presigned one without its signature. */
  uri: string;
  bucket: string;
  bucketOwner?: string;
  key: string;
  versionId?: string;
  remoteAddress: string;
  /** Canonical id; absent: anonymous. */
  requester?: string;
  accessKeyId?: string;
  authentication?: "header" | "presigned" | "post";
  signatureVersion?: 2 | 4;
  secure: boolean;
  status: number;
  /** S3's code. */
  error?: string;
  receivedBytes: number;
  sentBytes: number;
  totalMs: number;
  /** Until the answer began. */
  turnaroundMs: number;
  userAgent?: string;
  referer?: string;
  host?: string;
}

export function recordOf(
  request: IncomingRequest,
  response: S3Response,
  sent: { startedAt: number; answeredAt: number; sentBytes: number; failure: S3Error | undefined },
): RequestRecord {
  const { headers, identity, knownBucket } = request;
  const versionId = response.headers?.["x-amz-version-id"] ?? request.query.get("versionId");
  const milliseconds = (until: number) => Math.round((until - sent.startedAt) * 1000) / 1000;
  return {
    requestId: request.requestId,
    operation: request.operation,
    method: request.method,
    uri: withoutSecrets(request.req.url ?? ""),
    bucket: request.bucketName,
    ...(knownBucket === undefined ? {} : { bucketOwner: knownBucket.owner }),
    key: request.key,
    ...(versionId === undefined ? {} : { versionId }),
    remoteAddress: request.remoteAddress,
    ...(identity.account === undefined ? {} : { requester: identity.account.id }),
    ...(identity.accessKeyId === undefined ? {} : { accessKeyId: identity.accessKeyId }),
    ...(identity.form === undefined ? {} : { authentication: identity.form }),
    ...(identity.version === undefined ? {} : { signatureVersion: identity.version }),
    secure: request.secure,
    status: response.status ?? 200,
    ...(sent.failure === undefined ? {} : { error: sent.failure.code }),
    receivedBytes: Number(headers["content-length"] ?? 0),
    sentBytes: sent.sentBytes,
    totalMs: milliseconds(performance.now()),
    turnaroundMs: milliseconds(sent.answeredAt),
    ...(headers["user-agent"] === undefined ? {} : { userAgent: headers["user-agent"] }),
    ...(headers.referer === undefined ? {} : { referer: headers.referer }),
    ...(headers.host === undefined ? {} : { host: headers.host }),
  };
}

const secretParameter = /^(?:x-amz-signature|x-amz-security-token|signature)$/i;

/** A signature in a log would be as good as the URL for as long as it is valid; its name may be escaped. */
function withoutSecrets(uri: string): string {
  const mark = uri.indexOf("?");
  if (mark < 0) return uri;
  const parts = uri
    .slice(mark + 1)
    .split("&")
    .map((part) => {
      const [name = ""] = part.split("=", 1);
      return secretParameter.test(unescaped(name)) ? `${name}=…` : part;
    });
  return `${uri.slice(0, mark + 1)}${parts.join("&")}`;
}

function unescaped(name: string): string {
  return name.replace(/%([0-9a-f]{2})/gi, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)));
}

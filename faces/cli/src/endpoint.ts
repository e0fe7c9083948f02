import { request as httpRequest, type IncomingMessage } from "node:http";
import { request as httpsRequest } from "node:https";
import { isIP } from "node:net";
import { signRequest } from "@skep/sigv4";
import { fail, usage } from "./errors.ts";
import { s3Failure } from "./objects/answer.ts";

/** `https://HOST[:PORT]`, with nothing behind it. */
export function parseEndpoint(text: string): URL {
  const url = URL.parse(text.includes("://") ? text : `https://${text}`);
  const why =
    url === null
      ? "it is no URL"
      : !/^https?:$/.test(url.protocol)
        ? "only https and http are spoken"
        : url.pathname !== "/" || url.search !== "" || url.hash !== "" || url.username !== ""
          ? "it holds more than a host and a port"
          : undefined;
  if (why !== undefined) throw fail("ENDPOINT_INVALID", { endpoint: text.slice(0, 200), why });
  return url as URL;
}

export interface Trust {
  /** A CA's certificate besides the system's, PEM. */
  authority?: string | undefined;
  verify: boolean;
}

export interface EndpointCall {
  endpoint: URL;
  method: string;
  /** Path and query. */
  target: string;
  headers: Record<string, string>;
  trust: Trust;
  signal?: AbortSignal;
}

const tlsTrouble = /CERT|SELF_SIGNED|UNABLE_TO|ERR_TLS|EPROTO|ERR_SSL/;

/** One request without a body. ENDPOINT_UNREACHABLE, or ENDPOINT_UNTRUSTED where its certificate is not accepted. */
async function callEndpoint(call: EndpointCall): Promise<IncomingMessage> {
  const { endpoint, method, target, headers, trust, signal } = call;
  const { hostname, port, protocol } = endpoint;
  const host = hostname.replace(/^\[|\]$/g, "");
  const tls = {
    rejectUnauthorized: trust.verify,
    servername: isIP(host) === 0 ? host : "",
    ...(trust.authority === undefined ? {} : { ca: trust.authority }),
  };
  return new Promise((resolve, reject) => {
    const options = {
      host,
      method,
      path: target,
      headers,
      timeout: 20_000,
      ...(port === "" ? {} : { port }),
    };
    const request =
      protocol === "https:"
        ? httpsRequest({ ...options, ...tls, ...(signal === undefined ? {} : { signal }) }, resolve)
        : httpRequest({ ...options, ...(signal === undefined ? {} : { signal }) }, resolve);
    request.once("timeout", () => request.destroy(new Error("no answer within 20 s")));
    request.once("error", (error: NodeJS.ErrnoException) => {
      const untrusted = tlsTrouble.test(error.code ?? "");
      const code = untrusted ? "ENDPOINT_UNTRUSTED" : "ENDPOINT_UNREACHABLE";
      reject(fail(code, { endpoint: endpoint.origin, why: error.message || error.code }, { cause: error }));
    });
    request.end();
  });
}

/** Whether the endpoint shows a certificate of this CA that is good for its name. */
export async function isSignedBy(endpoint: URL, authority: string): Promise<boolean> {
  if (endpoint.protocol !== "https:") return false;
  try {
    const trust = { authority, verify: true };
    const answer = await callEndpoint({ endpoint, method: "GET", target: "/", headers: {}, trust });
    answer.destroy();
    return true;
  } catch {
    return false;
  }
}

export interface Keys {
  accessKeyId: string;
  secret: string;
}

/** Tries keys by listing buckets, the one request that is allowed to every key. */
export async function tryKeys(endpoint: URL, region: string, keys: Keys, trust: Trust): Promise<void> {
  const shape = { method: "GET", target: "/", headers: { host: endpoint.host } };
  const { headers } = signRequest(shape, keys, {
    region,
    now: Date.now(),
    payload: "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
  });
  const answer = await callEndpoint({
    endpoint,
    method: "GET",
    target: "/",
    headers: { ...shape.headers, ...headers },
    trust,
  });
  const failure = await s3Failure(answer, "the list of buckets");
  if (failure === undefined) return;
  // A key that may not list all buckets is a good key all the same.
  if (failure.s3Code === "AccessDenied") return;
  throw fail("KEYS_REFUSED", {
    accessKeyId: keys.accessKeyId.slice(0, 128),
    endpoint: endpoint.origin,
    why: failure.why,
  });
}

/** A key and its secret as they were given: both or none, the secret possibly from standard input. */
export async function givenKeys(
  flags: { accessKey?: string; secretKey?: string },
  readSecret: () => Promise<string>,
): Promise<Keys | undefined> {
  const { accessKey, secretKey } = flags;
  if (accessKey === undefined && secretKey === undefined) return undefined;
  if (accessKey === undefined || secretKey === undefined) {
    throw usage("--access-key and --secret-key go together", "a secret of - is read from standard input");
  }
  const secret = secretKey === "-" ? (await readSecret()).trim() : secretKey;
  if (!/^[\w.-]{3,128}$/.test(accessKey))
    throw usage(`"${accessKey.slice(0, 80)}" is not an access key's id`);
  if (!/^[\x21-\x7e]{1,256}$/.test(secret)) throw usage("the secret holds what no secret does");
  return { accessKeyId: accessKey, secret };
}

import { Agent as HttpAgent, request as httpRequest, type IncomingMessage } from "node:http";
import { Agent as HttpsAgent, request as httpsRequest } from "node:https";
import { SkepError } from "@skep/base";
import { fail } from "./errors.ts";

export interface GetOptions {
  signal: AbortSignal;
  headers?: Record<string, string>;
  /** Until the response's head has come. */
  answerTimeoutMs: number;
  /** Longest silence within the body. */
  stallTimeoutMs: number;
}

const maxRedirects = 8;
const redirects = new Set([301, 302, 303, 307, 308]);
const unreachable = new Set([
  "ENOTFOUND",
  "EAI_AGAIN",
  "ECONNREFUSED",
  "EHOSTUNREACH",
  "ENETUNREACH",
  "ENETDOWN",
  "ETIMEDOUT",
  "ERR_PROXY_TUNNEL",
]);

/** Refuses what is not plain http or https. */
export function parseUrl(text: string): URL {
  const shown = text.slice(0, 200);
  let url: URL;
  try {
    url = new URL(text);
  } catch (error) {
    throw fail("URL_INVALID", { url: shown, why: "it is not a URL" }, { cause: error });
  }
  if (url.protocol !== "http:" && url.protocol !== "https:") {
    throw fail("URL_INVALID", { url: shown, why: `${url.protocol} is not supported` });
  }
  return url;
}

/** A URL as it may be stored and shown: without a password or a signed query. */
export function publicUrl(url: URL): string {
  return `${url.origin}${url.pathname}`;
}

/**
 * GETs a URL, following a few redirects, never from https down to http. Proxies come from the
 * environment (HTTP_PROXY, HTTPS_PROXY, NO_PROXY). The response's body is left to the caller.
 */
export async function httpGet(start: URL, options: GetOptions): Promise<IncomingMessage> {
  let url = start;
  for (let step = 0; step <= maxRedirects; step += 1) {
    const response = await getOnce(url, options);
    if (!redirects.has(response.statusCode ?? 0)) return response;
    response.destroy();
    const location = response.headers.location;
    if (location === undefined)
      throw fail("DOWNLOAD_FAILED", { url: publicUrl(start), why: "a redirect leads nowhere" });
    const next = parseUrl(new URL(location, url).href);
    if (url.protocol === "https:" && next.protocol === "http:") {
      throw fail("DOWNLOAD_FAILED", {
        url: publicUrl(start),
        why: `it redirects from https down to ${next.origin}`,
      });
    }
    url = next;
  }
  throw fail("DOWNLOAD_FAILED", { url: publicUrl(start), why: `more than ${maxRedirects} redirects` });
}

function getOnce(url: URL, options: GetOptions): Promise<IncomingMessage> {
  const { signal, headers = {}, answerTimeoutMs, stallTimeoutMs } = options;
  const secure = url.protocol === "https:";
  const Agent = secure ? HttpsAgent : HttpAgent;
  const agent = new Agent({ keepAlive: false, proxyEnv: process.env });
  const send = secure ? httpsRequest : httpRequest;
  return new Promise((resolve, reject) => {
    const request = send(url, {
      agent,
      signal,
      headers: { "user-agent": "skep", "accept-encoding": "identity", ...headers },
    });
    const timer = setTimeout(() => {
      request.destroy(
        Object.assign(new Error(`no answer in ${answerTimeoutMs / 1000} s`), { code: "ETIMEDOUT" }),
      );
    }, answerTimeoutMs);
    request.once("response", (response) => {
      clearTimeout(timer);
      response.setTimeout(stallTimeoutMs, () =>
        response.destroy(new Error(`no data for ${stallTimeoutMs / 1000} s`)),
      );
      resolve(response);
    });
    request.once("error", (error) => {
      clearTimeout(timer);
      if (signal.aborted) return reject(signal.reason);
      const code = (error as NodeJS.ErrnoException).code ?? "";
      const why = error.message === "" ? code : error.message;
      if (unreachable.has(code)) reject(fail("OFFLINE", { host: url.host, why }, { cause: error }));
      else reject(error);
    });
    request.end();
  });
}

/** A small text, such as a list of checksums. */
export async function httpText(url: URL, limitBytes: number, options: GetOptions): Promise<string> {
  const response = await httpGet(url, options).catch((error: unknown) => {
    throw failed(url, error, options.signal);
  });
  try {
    if (response.statusCode !== 200) {
      throw fail("DOWNLOAD_FAILED", {
        url: publicUrl(url),
        why: `the server answers ${response.statusCode}`,
      });
    }
    const parts: Buffer[] = [];
    let length = 0;
    for await (const part of response as AsyncIterable<Buffer>) {
      length += part.length;
      if (length > limitBytes)
        throw fail("DOWNLOAD_TOO_LARGE", { url: publicUrl(url), limit: `${limitBytes} bytes` });
      parts.push(part);
    }
    return Buffer.concat(parts).toString("utf8");
  } catch (error) {
    throw failed(url, error, options.signal);
  } finally {
    response.destroy();
  }
}

function failed(url: URL, error: unknown, signal: AbortSignal): unknown {
  if (signal.aborted) return signal.reason;
  if (error instanceof SkepError) return error;
  const why = (error as Error).message || String(error);
  return fail("DOWNLOAD_FAILED", { url: publicUrl(url), why }, { cause: error });
}

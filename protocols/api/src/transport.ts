import { createHash } from "node:crypto";
import { Agent as HttpAgent, type IncomingMessage, type RequestOptions, request } from "node:http";
import { isIP } from "node:net";
import { SkepError } from "@skep/base";
import { bearer, type Connection, parseAddress, parseToken } from "./connection.ts";
import { fail } from "./errors.ts";

/** How requests and sockets reach skepd: made once a connection, on first use. */
export interface Transport {
  /** For messages. */
  readonly where: string;
  readonly headers: Record<string, string>;
  readonly options: RequestOptions & { ca?: string; servername?: string };
  readonly request: typeof request;
  /** For the WebSocket library. */
  readonly socketUrl: (path: string) => string;
  close(): void;
}

export async function openTransport(connection: Connection, signal?: AbortSignal): Promise<Transport> {
  if ("socket" in connection) return unixTransport(connection.socket);
  const parts = parseToken(connection.token);
  const { host, port, where } = parseAddress(connection.url);
  const [https, tls] = await Promise.all([import("node:https"), import("node:tls")]);
  const servername = isIP(host) === 0 ? host : "";
  const ca = await pinnedAuthority(tls, { host, port, where, servername }, parts.fingerprint, signal);
  const verified = { ca, servername, rejectUnauthorized: true, minVersion: "TLSv1.2" } as const;
  const agent = new https.Agent({ keepAlive: true, ...verified });
  const hostInUrl = isIP(host) === 6 ? `[${host}]` : host;
  return {
    where,
    headers: { authorization: bearer(parts) },
    options: { host, port, agent, ...verified },
    request: https.request as typeof request,
    socketUrl: (path) => `wss://${hostInUrl}:${port}${path}`,
    close: () => agent.destroy(),
  };
}

function unixTransport(socketPath: string): Transport {
  const agent = new HttpAgent({ keepAlive: false });
  return {
    where: socketPath,
    headers: {},
    options: { socketPath, agent },
    request,
    socketUrl: (path) => `ws+unix://${socketPath}:${path}`,
    close: () => agent.destroy(),
  };
}

/**
 * The server's CA certificate (PEM), fetched without trust and accepted only if its hash is the
 * token's. Nothing secret is sent here; what follows verifies the whole chain against it.
 */
async function pinnedAuthority(
  tls: typeof import("node:tls"),
  target: { host: string; port: number; where: string; servername: string },
  fingerprint: string,
  signal: AbortSignal | undefined,
): Promise<string> {
  signal?.throwIfAborted();
  const { host, port, servername, where } = target;
  const socket = tls.connect({ host, port, servername, rejectUnauthorized: false, minVersion: "TLSv1.2" });
  const onAbort = () => socket.destroy(fail("CONNECTION_FAILED", { where, why: "cancelled" }));
  signal?.addEventListener("abort", onAbort, { once: true });
  socket.setTimeout(20_000, () => socket.destroy(new Error("no answer within 20 s")));
  try {
    await new Promise<void>((resolve, reject) => {
      socket.once("secureConnect", resolve).once("error", reject);
      socket.once("close", () => reject(new Error("closed during the TLS handshake")));
    });
    let certificate = socket.getPeerCertificate(true);
    const seen = new Set<string>();
    while (certificate?.raw !== undefined && !seen.has(certificate.fingerprint256)) {
      if (createHash("sha256").update(certificate.raw).digest("base64url") === fingerprint) {
        const body = certificate.raw.toString("base64").replace(/(.{64})/g, "$1\n");
        return `-----BEGIN CERTIFICATE-----\n${body}\n-----END CERTIFICATE-----\n`;
      }
      seen.add(certificate.fingerprint256);
      certificate = certificate.issuerCertificate;
    }
    throw fail("TLS_FINGERPRINT", { where });
  } catch (error) {
    throw connectionError(error, where);
  } finally {
    signal?.removeEventListener("abort", onAbort);
    socket.destroy();
  }
}

const reasons: Record<string, string> = {
  ENOENT: "it does not run",
  ECONNREFUSED: "nothing listens there",
  EACCES: "no permission; it belongs to another user",
  ENOTFOUND: "the host's name is unknown",
  ETIMEDOUT: "no answer",
  EHOSTUNREACH: "the host cannot be reached",
};

/** Any failure of a connection as the error that says what to do about it. */
export function connectionError(error: unknown, where: string, begun = false): SkepError {
  if (error instanceof SkepError) return error;
  const { code, message } = error as NodeJS.ErrnoException;
  if (code === "ERR_TLS_CERT_ALTNAME_INVALID") return fail("TLS_NAME", { where }, { cause: error });
  const why = reasons[code ?? ""] ?? message;
  const tlsFault =
    code !== undefined && /CERT|SELF_SIGNED|ERR_SSL|ERR_TLS|UNABLE_TO|EPROTO|SIGNATURE/.test(code);
  if (tlsFault) return fail("TLS_FAILED", { where, why: message }, { cause: error });
  return fail(begun ? "CONNECTION_LOST" : "CONNECTION_FAILED", { where, why }, { cause: error });
}

const staleConnection = new Error("the server closed the connection");

/** Sends one request and resolves with the answer's head; the body is the caller's to read. */
export async function send(
  transport: Transport,
  call: {
    method: string;
    path: string;
    headers?: Record<string, string> | undefined;
    body?: unknown;
    signal?: AbortSignal | undefined;
  },
): Promise<IncomingMessage> {
  const payload = call.body === undefined ? undefined : Buffer.from(JSON.stringify(call.body));
  const attempt = () =>
    new Promise<IncomingMessage>((resolve, reject) => {
      const outgoing = transport.request(
        {
          ...transport.options,
          method: call.method,
          path: call.path,
          headers: {
            ...transport.headers,
            ...call.headers,
            ...(payload === undefined
              ? {}
              : { "content-type": "application/json", "content-length": payload.length }),
          },
          ...(call.signal === undefined ? {} : { signal: call.signal }),
        },
        resolve,
      );
      outgoing.once("error", (error: NodeJS.ErrnoException) => {
        // A kept connection that the server has closed meanwhile: nothing was processed.
        const stale = outgoing.reusedSocket && (error.code === "ECONNRESET" || error.code === "EPIPE");
        reject(stale ? staleConnection : error);
      });
      outgoing.end(payload);
    });
  try {
    return await attempt().catch((error: unknown) => {
      if (error !== staleConnection || call.method !== "GET") throw error;
      return attempt();
    });
  } catch (error) {
    call.signal?.throwIfAborted();
    throw connectionError(error, transport.where);
  }
}

import type { Socket } from "node:net";
import { connect, createServer, type TLSSocket } from "node:tls";

/** PEM: our certificate with its chain, our key, and the CA that the other side's certificate must be from. */
export interface TlsIdentity {
  certificate: string;
  key: string;
  authority: string;
}

export interface ClientTls extends Partial<TlsIdentity> {
  /** What the server's certificate must be for, if not the host connected to. */
  serverName?: string;
  /** Default true. Without it anyone in between may read and change everything. */
  verify?: boolean;
}

/** Continues a server's connection in TLS; a client without a certificate of `authority` is refused. */
export function acceptTls(socket: Socket, identity: TlsIdentity): Promise<TLSSocket> {
  return new Promise((resolve, reject) => {
    // A server of its own: one that is shared does not tell whose connection it has secured.
    const server = createServer({
      cert: identity.certificate,
      key: identity.key,
      ca: identity.authority,
      requestCert: true,
      rejectUnauthorized: true,
      allowHalfOpen: true,
    });
    const onClose = () => reject(new Error("the connection ended during the TLS handshake"));
    socket.once("close", onClose);
    server.once("secureConnection", (secured) => {
      socket.off("close", onClose);
      resolve(secured);
    });
    server.once("tlsClientError", (error) => {
      socket.destroy();
      reject(error);
    });
    server.emit("connection", socket);
  });
}

export function connectTls(socket: Socket, host: string | undefined, tls: ClientTls): Promise<TLSSocket> {
  return new Promise((resolve, reject) => {
    const serverName = tls.serverName ?? host;
    const secured = connect({
      socket,
      ...(serverName === undefined ? {} : { host: serverName }),
      ...(tls.certificate === undefined ? {} : { cert: tls.certificate }),
      ...(tls.key === undefined ? {} : { key: tls.key }),
      ...(tls.authority === undefined ? {} : { ca: tls.authority }),
      rejectUnauthorized: tls.verify ?? true,
    });
    const onClose = () => reject(new Error("the server ended the connection"));
    secured.once("error", reject).once("close", onClose);
    secured.once("secureConnect", () => {
      secured.off("error", reject).off("close", onClose);
      resolve(secured);
    });
  });
}

import type { Server } from "node:net";
import { isIP } from "node:net";
import { isErrno } from "@skep/base";
import { fail } from "./errors.ts";

export interface ListenAddress {
  host: string;
  port: number;
}

/** `HOST:PORT`; an IPv6 address stands in brackets. `examplePort` is for the error's hint. */
export function parseListen(address: string, examplePort = 8440): ListenAddress {
  const refuse = (why: string) =>
    fail("LISTEN_INVALID", { address: address.slice(0, 100), why, port: examplePort });
  const match = /^(\[[\da-fA-F:.]+\]|[^\s:[\]/]*):(\d{1,5})$/.exec(address);
  if (match === null) throw refuse("it is not HOST:PORT");
  const host = (match[1] as string).replace(/^\[|\]$/g, "");
  const port = Number(match[2]);
  if (host === "") throw refuse("the host is missing");
  if (port > 65535) throw refuse("the port is above 65535");
  return { host, port };
}

export function formatListen({ host, port }: ListenAddress): string {
  return `${isIP(host) === 6 ? `[${host}]` : host}:${port}`;
}

/** Listens on TCP and says where, with the port that the system chose for port 0. LISTEN_FAILED says why not. */
export async function listenTcp(server: Server, address: ListenAddress): Promise<ListenAddress> {
  try {
    await listening(server, () => server.listen(address));
  } catch (error) {
    const why = isErrno(error, "EADDRINUSE")
      ? "another program listens there"
      : isErrno(error, "EADDRNOTAVAIL") || isErrno(error, "ENOTFOUND")
        ? "this host does not have that address"
        : isErrno(error, "EACCES")
          ? "ports below 1024 need root"
          : (error as Error).message;
    throw fail("LISTEN_FAILED", { address: formatListen(address), why }, { cause: error });
  }
  const bound = server.address();
  const port = typeof bound === "object" && bound !== null ? bound.port : address.port;
  return { host: address.host, port };
}

/** Listens on a Unix socket that is this user's alone (0600). */
export async function listenUnix(server: Server, path: string): Promise<void> {
  await listening(server, () => {
    // bind(2) happens within listen(): the socket is never open to others, not for a moment.
    const before = process.umask(0o177);
    try {
      server.listen(path);
    } finally {
      process.umask(before);
    }
  });
}

function listening(server: Server, listen: () => void): Promise<void> {
  return new Promise((resolve, reject) => {
    const settle = (error?: Error) => {
      server.off("error", settle).off("listening", settle);
      if (error === undefined) resolve();
      else reject(error);
    };
    server.once("error", settle).once("listening", settle);
    listen();
  });
}

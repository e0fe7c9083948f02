import { fail } from "./errors.ts";
import { defaultPort } from "./protocol.ts";

/** Where an export is. Source: the NBD project's doc/uri.md. */
export interface NbdAddress {
  where: { path: string } | { host: string; port: number };
  exportName: string;
  /** nbds: never without TLS. */
  tls: boolean;
  /** `tls-hostname`: what the server's certificate must be for. */
  serverName?: string;
  /** `tls-verify-peer=0`. */
  verify?: boolean;
}

/** NBD_URI_INVALID says why. */
export function parseNbdUri(uri: string): NbdAddress {
  const refuse = (why: string, cause?: unknown) =>
    fail("NBD_URI_INVALID", { uri: uri.slice(0, 200), why }, { cause });
  const match = /^(nbds?)(\+unix)?:\/\/([^/?#]*)(?:\/([^?#]*))?(?:\?([^#]*))?$/.exec(uri);
  if (match === null) throw refuse("it is no URI of the schemes nbd, nbds, nbd+unix or nbds+unix");
  const [, scheme, unix, authority = "", name = "", query = ""] = match;
  const parameters = new URLSearchParams(query);
  let exportName: string;
  try {
    exportName = decodeURIComponent(name);
  } catch (error) {
    throw refuse("its export name is not well encoded", error);
  }
  const address: NbdAddress = { where: { path: "" }, exportName, tls: scheme === "nbds" };
  for (const [key, value] of parameters) {
    if (key === "socket" && unix !== undefined) address.where = { path: value };
    else if (key === "tls-hostname") address.serverName = value;
    else if (key === "tls-verify-peer") address.verify = value !== "0";
    else throw refuse(`the parameter ${key} is not known`);
  }
  if (unix !== undefined) {
    if ("path" in address.where && address.where.path === "") throw refuse("the socket is missing");
    return address;
  }
  const host = /^(?:\[([\da-fA-F:.]+)\]|([^:@[\]]+))(?::(\d{1,5}))?$/.exec(authority);
  if (host === null) throw refuse("the host is missing or malformed");
  const port = host[3] === undefined ? defaultPort : Number(host[3]);
  if (port < 1 || port > 65535) throw refuse("the port is not in 1 to 65535");
  address.where = { host: (host[1] ?? host[2]) as string, port };
  return address;
}

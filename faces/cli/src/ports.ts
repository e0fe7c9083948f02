import type { Port, PortRequest } from "@skep/api";
import { fail } from "./errors.ts";

function number(text: string, value: string, what: string, minimum: number): number {
  if (!/^\d{1,5}$/.test(text) || Number(text) > 65_535 || Number(text) < minimum) {
    throw fail("PORT_INVALID", {
      value,
      why: `the ${what} port "${text}" is not a number from ${minimum} to 65535`,
    });
  }
  return Number(text);
}

/**
 * A forward as people write it: `8080:80`, `:80` or `0:80` (a free host port), `0.0.0.0:53:53/udp`,
 * `[::1]:8080:80`, and `80` alone as `:80`.
 */
export function parsePublish(value: string): PortRequest {
  const match =
    /^(?:(?:\[([0-9a-fA-F:.]+)\]|([^:[\]/]+)):(?=[^:]*:))?(?:([^:/]*):)?([^:/]+)(?:\/(\w+))?$/.exec(value);
  if (match === null) throw fail("PORT_INVALID", { value: value.slice(0, 80), why: "it has not this form" });
  const [, ip6, ip4, host = "", guest, protocol = "tcp"] = match;
  if (protocol !== "tcp" && protocol !== "udp") {
    throw fail("PORT_INVALID", { value, why: `the protocol "${protocol}" is neither tcp nor udp` });
  }
  const hostAddress = ip6 ?? ip4;
  return {
    ...(hostAddress === undefined
      ? {}
      : { hostAddress: hostAddress === "localhost" ? "127.0.0.1" : hostAddress }),
    hostPort: host === "" ? 0 : number(host, value, "host", 0),
    guestPort: number(guest!, value, "guest", 1),
    ...(protocol === "udp" ? { protocol } : {}),
  };
}

/** `8080→80`, with the address where it is not the usual one. */
export function formatPort(port: Port): string {
  const address = port.hostAddress.includes(":") ? `[${port.hostAddress}]` : port.hostAddress;
  const host = address === "127.0.0.1" ? `${port.hostPort}` : `${address}:${port.hostPort}`;
  return `${host}→${port.guestPort}${port.protocol === "udp" ? "/udp" : ""}`;
}

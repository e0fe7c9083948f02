import assert from "node:assert/strict";
import { test } from "node:test";
import { parseConnections } from "./idle-tcp.ts";

const head =
  "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode";
const row = (from: string, to: string, state: string, timer = "00:00000000") =>
  `   0: ${from} ${to} ${state} 00000000:00000000 ${timer} 00000000     0        0 4242 1 0`;

test("connections are read from the kernel's table, without listeners and what is over", () => {
  const table = [
    head,
    row("0100007F:1F90", "00000000:0000", "0A"),
    row("0100007F:1F90", "0100007F:C350", "01"),
    row("0100007F:1F90", "0100007F:C351", "08"),
    row("0100007F:C352", "0100007F:1F90", "06", "03:000003E8"),
    row("0100007F:C353", "0100007F:1F90", "07"),
    "",
  ].join("\n");
  const here = { address: "127.0.0.1", port: 8080 };
  const there = (port: number) => ({ address: "127.0.0.1", port });
  assert.deepEqual(parseConnections(table), [
    { from: here, to: there(50_000), state: "open", leftMs: 0 },
    { from: here, to: there(50_001), state: "open", leftMs: 0 },
    { from: there(50_002), to: here, state: "ended", leftMs: 10_000 },
  ]);
});

test("IPv4 connections on IPv6 sockets count, those over IPv6 do not", () => {
  const mapped = (end: string) => `0000000000000000FFFF0000${end}`;
  const table = [
    head,
    row(mapped("0201A8C0:D431"), mapped("0101A8C0:01BB"), "01"),
    row("00000000000000000000000001000000:1F90", "00000000000000000000000001000000:C350", "01"),
    "not a row",
  ].join("\n");
  assert.deepEqual(parseConnections(table), [
    {
      from: { address: "192.168.1.2", port: 54_321 },
      to: { address: "192.168.1.1", port: 443 },
      state: "open",
      leftMs: 0,
    },
  ]);
});

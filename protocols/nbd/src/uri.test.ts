import assert from "node:assert/strict";
import { test } from "node:test";
import { parseNbdUri } from "./uri.ts";

test("NBD addresses are read as the NBD project's doc/uri.md has them", () => {
  const read = (uri: string) => {
    const { where, exportName, tls } = parseNbdUri(uri);
    return ["path" in where ? where.path : `${where.host} ${where.port}`, exportName, tls];
  };
  assert.deepEqual(read("nbd://example.com/disk"), ["example.com 10809", "disk", false]);
  assert.deepEqual(read("nbds://example.com:1234"), ["example.com 1234", "", true]);
  assert.deepEqual(read("nbd://example.com//disk"), ["example.com 10809", "/disk", false]);
  assert.deepEqual(read("nbd://[::1]/hello%20world"), ["::1 10809", "hello world", false]);
  assert.deepEqual(read("nbd+unix:///disk?socket=/run/a%20b.sock"), ["/run/a b.sock", "disk", false]);
  assert.deepEqual(read("nbds+unix:///?socket=s&tls-hostname=h&tls-verify-peer=0"), ["s", "", true]);
  for (const uri of [
    "http://example.com/",
    "nbd:///disk",
    "nbd://host:70000/",
    "nbd+unix:///disk",
    "nbd://host/?socket=/s",
    "nbd://host/%zz",
    "nbd://host/?colour=red",
  ]) {
    assert.throws(() => parseNbdUri(uri), { code: "NBD_URI_INVALID" }, uri);
  }
});

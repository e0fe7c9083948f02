import assert from "node:assert/strict";
import { test } from "node:test";
import type { Machine } from "@skep/api";
import { lastPart, parseSide, placeSource } from "./copy-path.ts";
import { parseEnvironment } from "./environment.ts";
import { matchesFilters, parseFilters } from "./filters.ts";
import { didYouMean, nearest } from "./nearest.ts";
import { parsePublish } from "./ports.ts";
import { verbIndex } from "./program.ts";
import { parseArch, parseCount, parseDisk, parseMemory, parseVolume } from "./request.ts";
import { shellWord } from "./verbs/inspect.ts";

test("a forward is read in each form", () => {
  assert.deepEqual(parsePublish("8080:80"), { hostPort: 8080, guestPort: 80 });
  assert.deepEqual(parsePublish(":80"), { hostPort: 0, guestPort: 80 });
  assert.deepEqual(parsePublish("0:80"), { hostPort: 0, guestPort: 80 });
  assert.deepEqual(parsePublish("80"), { hostPort: 0, guestPort: 80 });
  assert.deepEqual(parsePublish("0.0.0.0:5353:53/udp"), {
    hostAddress: "0.0.0.0",
    hostPort: 5353,
    guestPort: 53,
    protocol: "udp",
  });
  assert.deepEqual(parsePublish("[::1]:8080:80/tcp"), { hostAddress: "::1", hostPort: 8080, guestPort: 80 });
  assert.deepEqual(parsePublish("127.0.0.1::80"), { hostAddress: "127.0.0.1", hostPort: 0, guestPort: 80 });
  for (const bad of [
    "",
    ":",
    "x:80",
    "80:",
    "80:0",
    "70000:80",
    "80:80/sctp",
    "1:2:3:4",
    "-1:80",
    "80:99999",
  ]) {
    assert.throws(() => parsePublish(bad), { code: "PORT_INVALID" }, bad);
  }
});

test("a machine's volume is named, and read only where that is said", () => {
  assert.deepEqual(parseVolume("data"), { volume: "data" });
  assert.deepEqual(parseVolume("vol-0123456789abcdef0:rw"), { volume: "vol-0123456789abcdef0" });
  assert.deepEqual(parseVolume("data:ro"), { volume: "data", readOnly: true });
  for (const bad of ["", ":ro", "data:", "data:r", "data:ro:ro"]) {
    assert.throws(() => parseVolume(bad), /is not understood/, bad);
  }
});

test("environment entries are NAME=VALUE, or a NAME that is set here", () => {
  assert.deepEqual(parseEnvironment(["A=1", "B=x=y", "HERE"], { HERE: "yes" }), {
    A: "1",
    B: "x=y",
    HERE: "yes",
  });
  assert.throws(() => parseEnvironment(["MISSING"], {}), /is not set here/);
  assert.throws(() => parseEnvironment(["1A=x"], {}), { code: "ENV_INVALID" });
});

test("memory counts MiB, disks need a unit, MB are not MiB", () => {
  assert.equal(parseMemory("2G"), 2048);
  assert.equal(parseMemory("512"), 512);
  assert.equal(parseMemory("2GB"), 1907);
  assert.throws(() => parseMemory("32M"), /too small/);
  assert.throws(() => parseMemory("0"), { code: "SIZE_INVALID" });
  assert.throws(() => parseMemory("-1G"), { code: "SIZE_INVALID" });
  assert.equal(parseDisk("20G"), 20 * 1024 ** 3);
  assert.throws(() => parseDisk("20"), /has no unit/);
  assert.equal(parseCount("4", "cpus"), 4);
  assert.throws(() => parseCount("0", "cpus"), /above 0/);
  assert.equal(parseArch("arm64"), "aarch64");
  assert.throws(() => parseArch("constructor"), /is not known/);
});

test("the nearest word is found, a far one is not", () => {
  assert.equal(nearest("strat", ["start", "stop"]), "start");
  assert.equal(nearest("memroy", ["memory", "cpus"]), "memory");
  assert.equal(didYouMean("xyzzy", ["start", "stop"]), "");
});

test("filters join different keys and choose among equal ones", () => {
  const machine = { name: "web-1", state: "running", image: "debian-12", autostart: true } as Machine;
  const matches = (...values: string[]) => matchesFilters(machine, parseFilters(values));
  assert.ok(matches("name=web-*", "state=running"));
  assert.ok(matches("state=stopped", "state=running"));
  assert.ok(!matches("name=web-*", "state=stopped"));
  assert.ok(!matches("name=web.1"));
  assert.throws(() => parseFilters(["size=1"]), /unknown key/);
  assert.throws(() => parseFilters(["running"]), /KEY=VALUE/);
});

test("a copy's side is a machine before a colon, unless a slash comes first", () => {
  assert.deepEqual(parseSide("web:/etc"), { kind: "machine", name: "web", path: "/etc" });
  assert.deepEqual(parseSide("web:"), { kind: "machine", name: "web", path: "" });
  assert.deepEqual(parseSide("./a:b"), { kind: "local", path: "./a:b" });
  assert.deepEqual(parseSide("-"), { kind: "pipe" });
  assert.throws(() => parseSide(":x"), { code: "COPY_SIDES" });
});

test("copies land where docker cp puts them", () => {
  const file = { path: "dir/a.txt", isDirectory: false };
  const directory = { path: "dir/sub/", isDirectory: true };
  const content = { path: "dir/sub/.", isDirectory: true };
  assert.deepEqual(placeSource(file, { path: "/srv", kind: "directory" }, false), {
    intoParent: false,
    name: "a.txt",
  });
  assert.deepEqual(placeSource(file, { path: "/srv/b", kind: "none" }, false), {
    intoParent: true,
    name: "b",
  });
  assert.deepEqual(placeSource(file, { path: "/srv/b", kind: "file" }, false), {
    intoParent: true,
    name: "b",
  });
  assert.throws(
    () => placeSource(file, { path: "/srv/b/", kind: "none" }, false),
    /no directory that exists/,
  );
  assert.deepEqual(placeSource(directory, { path: "/srv", kind: "directory" }, false), {
    intoParent: false,
    name: "sub",
  });
  assert.deepEqual(placeSource(directory, { path: "/srv/new", kind: "none" }, false), {
    intoParent: true,
    name: "new",
  });
  assert.deepEqual(placeSource(content, { path: "/srv", kind: "directory" }, false), {
    intoParent: false,
    name: "",
  });
  assert.throws(() => placeSource(directory, { path: "/srv/b", kind: "file" }, false), /cannot replace/);
  assert.throws(() => placeSource(file, { path: "/srv/b", kind: "none" }, true), /is no directory/);
  assert.equal(lastPart("/"), "");
});

test("global options may come before the verb", () => {
  assert.equal(verbIndex(["--host", "https://x", "--json", "ls"]), 3);
  assert.equal(verbIndex(["--host=https://x", "ls"]), 1);
  assert.equal(verbIndex(["--json"]), -1);
});

test("a QEMU command is printed as a shell reads it back", () => {
  assert.equal(shellWord("a=b,c"), "a=b,c");
  assert.equal(shellWord("it's"), "'it'\\''s'");
});

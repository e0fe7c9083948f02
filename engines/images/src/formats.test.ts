import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { findChecksum } from "./checksums.ts";
import { writeCpio } from "./cpio.ts";
import { newestKernel, usedInodes } from "./disk.ts";
import { elfNeeds, moduleNeeds } from "./elf.ts";
import { nameFromFile } from "./names.ts";

test("a cpio archive has aligned members, owner root and a trailer", () => {
  const entries = [
    { path: "d", type: "directory", mode: 0o755 },
    { path: "d/f", type: "file", mode: 0o640, data: Buffer.from("hello") },
    { path: "l", type: "link", target: "d/f" },
    { path: "c", type: "device", mode: 0o600, major: 5, minor: 1 },
  ] as const;
  const archive = writeCpio(entries, 1000);
  assert.deepEqual(writeCpio(entries, 1000), archive);
  const names: string[] = [];
  for (let at = 0; at < archive.length; ) {
    assert.equal(at % 4, 0);
    assert.equal(archive.toString("latin1", at, at + 6), "070701");
    const field = (index: number) =>
      Number.parseInt(archive.toString("latin1", at + 6 + index * 8, at + 14 + index * 8), 16);
    const name = archive.toString("latin1", at + 110, at + 110 + field(11) - 1);
    names.push(name);
    if (name !== "TRAILER!!!") assert.deepEqual([field(2), field(3), field(5)], [0, 0, 1000]);
    const data = Math.ceil((at + 110 + field(11)) / 4) * 4;
    if (name === "d/f") assert.equal(archive.toString("latin1", data, data + field(6)), "hello");
    at = Math.ceil((data + field(6)) / 4) * 4;
  }
  assert.deepEqual(names, ["d", "d/f", "l", "c", "TRAILER!!!"]);
});

test("a program's libraries and loader are read from it; other bytes are no program", () => {
  const needs = elfNeeds(readFileSync("/bin/sh"));
  assert.ok(needs?.libraries.some((library) => library.startsWith("libc.so")));
  assert.match(needs?.interpreter ?? "", /ld-linux/);
  assert.equal(elfNeeds(Buffer.from("#!/bin/sh\n")), undefined);
  const program = readFileSync("/bin/sh");
  for (const length of [4, 63, 64, 200, 1000]) elfNeeds(program.subarray(0, length));
});

test("a module's dependencies are hard and soft ones", () => {
  const module = Buffer.from("x\0depends=a,b-c\0softdep=pre: crc post: other\0vermagic=1\0");
  assert.deepEqual(moduleNeeds(module), ["a", "b-c", "crc"]);
});

test("checksum lists are read as their publishers write them", () => {
  const [short, long] = ["a".repeat(64), "B".repeat(128)];
  assert.deepEqual(findChecksum(`${short} *disk.img\n`, "disk.img"), { algorithm: "sha256", hex: short });
  assert.equal(
    findChecksum(`# c\nSHA256 (x) = ${short}\nSHA512 (d) = ${long}`, "d")?.hex,
    long.toLowerCase(),
  );
  assert.equal(findChecksum(`${long}\n`, "any.qcow2")?.algorithm, "sha512");
  assert.equal(findChecksum(`${short}  other\n${short}  another\n`, "disk.img"), undefined);
  assert.equal(findChecksum("<html>404</html>", "disk.img"), undefined);
});

test("the newest kernel is found by its numbers", () => {
  assert.equal(
    newestKernel(["vmlinuz-6.1.0-9-amd64", "vmlinuz-6.1.0-10-amd64", "config-7"]),
    "6.1.0-10-amd64",
  );
  assert.equal(newestKernel([]), undefined);
});

test("inodes in use are those that no group lists as free", () => {
  const dump = "Inode count:              20\n  Free inodes: 13, 15-18\nFree inodes:  5\n";
  assert.deepEqual(usedInodes(dump), [11, 12, 14, 19, 20]);
});

test("a file's name becomes an image's name", () => {
  assert.equal(nameFromFile("Rocky-9-Cloud.latest.x86_64.qcow2"), "rocky-9-cloud.latest.x86-64");
  assert.equal(nameFromFile("..--.raw.xz"), "imported");
});

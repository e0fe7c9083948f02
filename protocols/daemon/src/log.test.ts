import assert from "node:assert/strict";
import { mkdir, mkdtemp, open, readFile, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { LogFile } from "./log.ts";

test("a log that cannot be moved aside goes on, and no other file is closed for it", async () => {
  const home = await mkdtemp(join(tmpdir(), "sk-"));
  try {
    const path = join(home, "skepd.log");
    await mkdir(join(`${path}.1`, "in the way"), { recursive: true });
    const log = new LogFile(path, 100);
    const other = await open(join(home, "other"), "w");
    for (let line = 0; line < 30; line += 1) log.write(`line ${line} ........\n`);
    await other.write("still open");
    await other.close();
    assert.match(await readFile(path, "utf8"), /line 0 [\s\S]*line 29/);
  } finally {
    await rm(home, { recursive: true });
  }
});

test("the log moves aside at its limit, and one old file is kept", async () => {
  const home = await mkdtemp(join(tmpdir(), "sk-"));
  try {
    const path = join(home, "skepd.log");
    const log = new LogFile(path, 100);
    for (let line = 0; line < 30; line += 1) log.write(`line ${line} ........\n`);
    assert.match(await readFile(path, "utf8"), /line 29/);
    assert.ok((await stat(path)).size <= 100 && (await stat(`${path}.1`)).size <= 100);
    assert.equal((await stat(path)).mode & 0o777, 0o600);
  } finally {
    await rm(home, { recursive: true });
  }
});

import assert from "node:assert/strict";
import { mkdir, mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { run } from "@skep/base";
import { readInput } from "./input.ts";
import { readPublicKeys, userPublicKeys } from "./keys.ts";
import { includeConfig } from "./ssh-include.ts";

let home = "";
before(async () => {
  home = await mkdtemp("/tmp/skep-cli-");
  await mkdir(join(home, ".ssh"));
  await run("ssh-keygen", [
    "-q",
    "-t",
    "ed25519",
    "-N",
    "",
    "-C",
    "me@here",
    "-f",
    join(home, ".ssh/id_ed25519"),
  ]);
});
after(() => rm(home, { recursive: true }));

test("a key is a file or a literal, never a private one", async () => {
  const file = join(home, ".ssh/id_ed25519");
  const [key] = await readPublicKeys(`${file}.pub`);
  assert.match(key!, /^ssh-ed25519 \S+ me@here$/);
  assert.deepEqual(await readPublicKeys(key!), [key]);
  await assert.rejects(readPublicKeys(file), { code: "KEY_PRIVATE" });
  await assert.rejects(readPublicKeys("ssh-ed25519 nonsense"), { code: "KEY_INVALID" });
  await assert.rejects(readPublicKeys(join(home, "absent")), { code: "INPUT_UNREADABLE" });
  await assert.rejects(readPublicKeys(home), /is a directory/);
});

test("the user's own keys are found, odd files there are passed over", async () => {
  await writeFile(join(home, ".ssh/notes.pub"), "not a key\n");
  assert.equal((await userPublicKeys(home)).length, 1);
  assert.deepEqual(await userPublicKeys(join(home, "absent")), []);
});

test("an input beyond its limit is refused without being read whole", async () => {
  await assert.rejects(readInput("/dev/zero", 65_536), { code: "INPUT_TOO_LARGE" });
});

test("the Include line is added once, at the top, and nothing else changes", async () => {
  const directory = join(home, "other/.ssh");
  await mkdir(directory, { recursive: true });
  const before = "Host x\n  User y\r\n\tPort 1";
  await writeFile(join(directory, "config"), before, { mode: 0o644 });
  assert.equal((await includeConfig(directory, "/h/ssh/config")).added, true);
  assert.equal((await includeConfig(directory, "/h/ssh/config")).added, false);
  assert.equal(await readFile(join(directory, "config"), "utf8"), `Include /h/ssh/config\n\n${before}`);
  assert.equal((await stat(join(directory, "config"))).mode & 0o777, 0o600);
});

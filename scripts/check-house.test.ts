import assert from "node:assert/strict";
import { test } from "node:test";
import { lockFileProblems } from "./check-house.ts";

const lock = (entry: object) => JSON.stringify({ packages: { "": {}, "node_modules/a": entry } });

test("a lock file without addresses, with integrity, passes", () => {
  assert.deepEqual(lockFileProblems(lock({ integrity: "sha512-x" })), []);
  assert.deepEqual(lockFileProblems(lock({ link: true, resolved: "protocols/a" })), []);
});

test("an address or a missing integrity in the lock file is refused", () => {
  assert.match(
    lockFileProblems(lock({ integrity: "sha512-x", resolved: "https://registry.invalid/a.tgz" }))[0]!,
    /node_modules\/a has an address/,
  );
  assert.match(lockFileProblems(lock({}))[0]!, /no integrity/);
});

test("an optional package of another platform must be in the lock file", () => {
  const problems = lockFileProblems(
    lock({ integrity: "sha512-x", optionalDependencies: { "a-darwin": "1" } }),
  );
  assert.match(problems[0]!, /a-darwin, which "node_modules\/a" wants, has no entry/);
});

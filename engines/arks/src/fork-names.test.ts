import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { checkNamesFree, namesOfCopies } from "./fork-names.ts";

describe("names of copies", () => {
  it("are the one given, or numbered from 1", () => {
    assert.deepEqual(namesOfCopies("web", { name: "copy" }), ["copy"]);
    assert.deepEqual(namesOfCopies("web", {}), ["web-1"]);
    assert.deepEqual(namesOfCopies("web", { count: 3 }), ["web-1", "web-2", "web-3"]);
    assert.deepEqual(namesOfCopies("web", { count: 2, prefix: "test" }), ["test-1", "test-2"]);
    assert.equal(namesOfCopies("web", { count: 1000 }).length, 1000);
  });

  it("are refused where they cannot be", () => {
    const code = (request: object, expected: string, machine = "web") =>
      assert.throws(() => namesOfCopies(machine, request), { code: expected });
    code({ count: 0 }, "FORK_INVALID");
    code({ count: -1 }, "FORK_INVALID");
    code({ count: 1.5 }, "FORK_INVALID");
    code({ count: 2, name: "copy" }, "FORK_INVALID");
    code({ name: "copy", prefix: "test" }, "FORK_INVALID");
    code({ name: "../x" }, "NAME_INVALID");
    code({ prefix: "-x" }, "NAME_INVALID");
    code({ prefix: "" }, "NAME_INVALID");
    code({ count: 10 }, "FORK_INVALID", "a".repeat(46));
    code({ count: 10, prefix: "a".repeat(46) }, "NAME_INVALID");
    assert.equal(namesOfCopies("a".repeat(46), { count: 9 }).length, 9);
  });

  it("that are taken refuse all, and are named", () => {
    const names = namesOfCopies("web", { count: 12 });
    assert.doesNotThrow(() => checkNamesFree("web", names, () => false));
    const taken = new Set(["web-2"]);
    assert.throws(() => checkNamesFree("web", names, (name) => taken.has(name)), {
      code: "FORK_NAME_TAKEN",
      message: /there is a machine "web-2" already/,
    });
    assert.throws(() => checkNamesFree("web", names, () => true), /"web-1", .*"web-8" and 4 more already/);
  });
});

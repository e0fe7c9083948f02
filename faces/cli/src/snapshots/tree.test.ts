import assert from "node:assert/strict";
import { test } from "node:test";
import { drawTree } from "./tree.ts";

const drawn = (...branches: [string, string | null][]) =>
  drawTree(branches.map(([name, parent]) => ({ name, parent }))).map(({ lead, item }) => lead + item.name);

test("snapshots hang on those that they were made after", () => {
  assert.deepEqual(drawn(["a", null], ["b", "a"], ["c", "b"], ["d", "a"], ["e", null]), [
    "a",
    "├─ b",
    "│  └─ c",
    "└─ d",
    "e",
  ]);
});

test("one whose parent is gone, and each of a ring, is shown once", () => {
  assert.deepEqual(drawn(["a", "gone"], ["b", "b"]), ["a", "b"]);
  assert.deepEqual(drawn(["a", "b"], ["b", "a"]), ["a", "└─ b"]);
  assert.deepEqual(drawn(), []);
});

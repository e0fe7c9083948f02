import assert from "node:assert/strict";
import { test } from "node:test";
import { drawTerminal, parseLine } from "./terminal-svg.ts";

test("colours and styles are kept, other sequences are dropped", () => {
  const { runs, after } = parseLine("a\x1b[1;31mb\x1b[0m\x1b]0;title\x07c\x1b[38;5;208md\x1b[48;2;1;2;3me");
  assert.deepEqual(
    runs.map(({ text, look }) => [text, look.foreground, look.bold]),
    [
      ["a", undefined, false],
      ["b", "#f07178", true],
      ["c", undefined, false],
      ["d", "#ff8700", false],
      ["e", "#ff8700", false],
    ],
  );
  assert.equal(after.background, "#010203");
});

test("text is escaped and stands in its column", () => {
  const svg = drawTerminal("ab\x1b[32m<&>\x1b[0m", { columns: 10, title: "x" });
  assert.match(svg, /<text x="34.8" y="66" textLength="25.2" fill="#8fd17f">&#60;&#38;&#62;<\/text>/);
});

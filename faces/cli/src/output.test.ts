import assert from "node:assert/strict";
import { test } from "node:test";
import type { MachineStats } from "@skep/api";
import { plainView, progressLine, Rate } from "./progress.ts";
import { usageBetween } from "./rates.ts";
import { printable } from "./style.ts";
import { formatTable } from "./table.ts";

const rows = [
  { name: "a-long-name", note: "something that goes on and on" },
  { name: "b", note: "x" },
];
const columns = [
  { title: "NAME", text: (row: (typeof rows)[0]) => row.name, shrinkTo: 6 },
  { title: "N", text: () => "1", align: "right" as const, dropOrder: 1 },
  { title: "NOTE", text: (row: (typeof rows)[0]) => row.note, shrinkTo: 8 },
];

test("columns are aligned, and whole where output is no terminal", () => {
  assert.equal(
    formatTable(rows, columns),
    "NAME         N  NOTE\na-long-name  1  something that goes on and on\nb            1  x\n",
  );
});

test("on a narrow terminal no line wraps: columns shrink, then go", () => {
  for (const width of [40, 24, 17]) {
    const lines = formatTable(rows, columns, { width }).trimEnd().split("\n");
    assert.ok(
      lines.every((line) => line.length <= width),
      lines.join("\n"),
    );
  }
  assert.ok(!formatTable(rows, columns, { width: 17 }).includes(" N "));
});

test("what a guest named cannot steer the terminal", () => {
  assert.equal(printable("a\x1b[2Jb\r\nc"), "a?[2Jb??c");
});

test("bytes get a bar, a rate and the time left", () => {
  const rate = new Rate();
  rate.add(0, 0);
  rate.add(1024 ** 2, 1000);
  const line = progressLine(
    { phase: "downloading x", done: 1024 ** 2, total: 3 * 1024 ** 2, unit: "bytes" },
    rate,
    "*",
    80,
  );
  assert.match(line, /^\* downloading x {2}━+─+ {2}1 MiB \/ 3 MiB {2}1 MiB\/s {2}0:02$/);
  assert.ok(line.length < 80);
});

test("plain progress tells each phase once, and bytes now and then", () => {
  const lines: string[] = [];
  let now = 0;
  const view = plainView(
    (line) => lines.push(line),
    5000,
    () => now,
  );
  view.update({ phase: "building" });
  view.update({ phase: "building" });
  view.update({ phase: "downloading", done: 0, total: 100, unit: "bytes" });
  view.update({ phase: "downloading", done: 10, total: 100, unit: "bytes" });
  now = 6000;
  view.update({ phase: "downloading", done: 50, total: 100, unit: "bytes" });
  assert.deepEqual(lines, ["building", "downloading", "downloading: 50 B of 100 B (50%)"]);
});

test("rates come from two samples; a counter that went back gives none", () => {
  const sample = (time: string, cpuSeconds: number, diskReadBytes: number): MachineStats => ({
    name: "web",
    time,
    cpuSeconds,
    memoryResidentBytes: 1,
    memoryMiB: 64,
    diskReadBytes,
    diskWrittenBytes: 0,
    diskAllocatedBytes: 0,
    networkReceivedBytes: null,
    networkSentBytes: null,
  });
  const before = [sample("2026-01-01T00:00:00Z", 1, 1000)];
  const [usage] = usageBetween(before, [sample("2026-01-01T00:00:02Z", 2, 500)]);
  assert.equal(usage!.cpuPercent, 50);
  assert.equal(usage!.diskReadRate, null);
  assert.equal(usage!.networkReceivedRate, null);
  assert.equal(usageBetween([], before)[0]!.cpuPercent, null);
});

import type { MachineSnapshot, MachineSnapshotRestored } from "@skep/api";
import { formatSize } from "@skep/base";
import { ageText, memoryText, secondsText } from "../machine-text.ts";
import { printable, type Style } from "../style.ts";
import type { Column } from "../table.ts";
import { drawTree } from "./tree.ts";

export function snapshotColumns(
  snapshots: readonly MachineSnapshot[],
  style: Style,
): Column<MachineSnapshot>[] {
  const problems: Column<MachineSnapshot>[] = snapshots.some(({ problem }) => problem !== null)
    ? [{ title: "PROBLEM", text: ({ problem }) => problem ?? "", shrinkTo: 12, colour: () => style.red }]
    : [];
  return [
    { title: "NAME", text: ({ name }) => name },
    { title: "WAS", text: ({ state }) => state },
    {
      title: "MEMORY",
      text: ({ memory }) => (memory === null ? "-" : memoryText(memory.populatedMiB)),
      align: "right",
      dropOrder: 2,
    },
    { title: "STORED", text: ({ storedBytes }) => formatSize(storedBytes), align: "right", dropOrder: 1 },
    { title: "AFTER", text: ({ parent }) => parent ?? "-", shrinkTo: 8, dropOrder: 3 },
    { title: "AGE", text: ({ createdAt }) => ageText(createdAt), align: "right" },
    ...problems,
  ];
}

/** What `snapshot show` prints. */
export function snapshotText(snapshot: MachineSnapshot, style: Style): string {
  const { memory, disks, volumes, fileSystemsFrozen, pauseMs, parent, problem } = snapshot;
  const rows: [string, string | undefined][] = [
    ["machine", `${snapshot.machine}, which was ${snapshot.state}`],
    ["taken", `${ageText(snapshot.createdAt)} ago (${snapshot.createdAt})`],
    ["after", parent ?? undefined],
    [
      "memory",
      memory === null
        ? "none: a restore boots"
        : `${memoryText(memory.populatedMiB)}, ${formatSize(memory.storedBytes)} stored`,
    ],
    ["disks", disks.map(({ sizeBytes }) => formatSize(sizeBytes)).join(", ") || "none"],
    ["volumes", volumes.map(({ id }) => id).join(", ") || undefined],
    ["stored", formatSize(snapshot.storedBytes)],
    ["frozen", fileSystemsFrozen === null ? undefined : frozenText(fileSystemsFrozen)],
    ["paused", pauseMs === null ? undefined : secondsText(pauseMs)],
    ["problem", problem === null ? undefined : style.red(printable(problem))],
  ];
  const title = `${style.bold(snapshot.name)}${snapshot.current ? style.dim(" (the machine goes on from it)") : ""}`;
  const lines = rows.flatMap(([key, value]) => (value === undefined ? [] : [`  ${key.padEnd(9)}${value}`]));
  return `${[title, ...lines].join("\n")}\n`;
}

function frozenText(frozen: boolean): string {
  return frozen
    ? "its file systems were held still meanwhile"
    : "its file systems were not: they are as after a power cut";
}

/** `web@before is kept: 239 MiB of memory, paused 120 ms`. */
export function takenText({ machine, name, memory, fileSystemsFrozen, pauseMs }: MachineSnapshot): string {
  const parts = [
    memory === null ? "without memory" : `${memoryText(memory.populatedMiB)} of memory`,
    ...(fileSystemsFrozen === null
      ? []
      : [fileSystemsFrozen ? "its file systems held still" : "its file systems not held still"]),
    ...(pauseMs === null ? [] : [`paused ${secondsText(pauseMs)}`]),
  ];
  return `snapshot ${name} of ${machine} is taken: ${parts.join(", ")}`;
}

const ways: Record<MachineSnapshotRestored["how"], string> = {
  resumed: "goes on where it was",
  booted: "boots",
  suspended: "is suspended",
  stopped: "is stopped",
};

export function restoredTexts(restored: MachineSnapshotRestored): string[] {
  const { machine, snapshot, kept, how, durationMs } = restored;
  return [
    `${machine.name} is set back to ${snapshot} and ${ways[how]}, after ${secondsText(durationMs)}`,
    ...(kept === null ? [] : [`what it was is kept: skep snapshot restore ${machine.name} ${kept}`]),
  ];
}

/** What hangs on what; the one that the machine goes on from is marked. */
export function treeText(snapshots: readonly MachineSnapshot[], style: Style): string {
  const lines = drawTree(snapshots).map(({ lead, item }) => {
    const { name, createdAt, memory, problem, current } = item;
    const marks = [
      `${ageText(createdAt)} ago`,
      memory === null ? undefined : "with memory",
      problem === null ? undefined : "cannot be used",
    ].filter((mark) => mark !== undefined);
    const here = current ? ` ${style.green("← the machine goes on from here")}` : "";
    return `${lead}${style.bold(name)} ${style.dim(`(${marks.join(", ")})`)}${here}`;
  });
  return lines.length === 0 ? "" : `${lines.join("\n")}\n`;
}

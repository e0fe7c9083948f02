import type { Volume, VolumeCheckReport, VolumeSnapshot } from "@skep/api";
import { formatSize } from "@skep/base";
import type { Context } from "../context.ts";
import { ageText } from "../machine-text.ts";
import { type Paint, printable, type Style } from "../style.ts";
import type { Column } from "../table.ts";

/** A new volume's id is the result. */
export function tell(context: Context, volume: Volume): void {
  if (context.options.json) context.printJson(volume);
  else context.print(volume.id);
}

export const titleOf = ({ id, name }: Volume) => name ?? id;

function stateColour(volume: Volume, style: Style): Paint | undefined {
  if (volume.state === "unreadable") return style.red;
  if (volume.problem !== null) return style.yellow;
  return volume.state === "attached" ? style.green : undefined;
}

const placeText = ({ store: { endpoint, bucket } }: Volume) =>
  endpoint === null ? (bucket === "skep-volumes" ? "here" : bucket) : `${endpoint}/${bucket}`;

export function volumeColumns(volumes: readonly Volume[], style: Style): Column<Volume>[] {
  const problems: Column<Volume>[] = volumes.some(({ problem }) => problem !== null)
    ? [{ title: "PROBLEM", text: ({ problem }) => problem ?? "", shrinkTo: 12 }]
    : [];
  return [
    { title: "ID", text: ({ id }) => id },
    { title: "NAME", text: ({ name }) => name ?? "-", shrinkTo: 8 },
    { title: "SIZE", text: ({ sizeBytes }) => formatSize(sizeBytes), align: "right" },
    {
      title: "STORED",
      text: ({ storedBytes }) => (storedBytes === null ? "-" : formatSize(storedBytes)),
      align: "right",
      dropOrder: 2,
    },
    { title: "STATE", text: ({ state }) => state, colour: (volume) => stateColour(volume, style) },
    { title: "MACHINE", text: ({ machine }) => machine ?? "-", shrinkTo: 8 },
    {
      title: "SNAPSHOTS",
      text: ({ snapshots }) => `${snapshots.length || "-"}`,
      align: "right",
      dropOrder: 4,
    },
    { title: "STORE", text: placeText, shrinkTo: 8, dropOrder: 3 },
    { title: "AGE", text: ({ createdAt }) => ageText(createdAt), align: "right", dropOrder: 5 },
    ...problems,
  ];
}

export const snapshotColumns: Column<VolumeSnapshot>[] = [
  { title: "ID", text: ({ id }) => id },
  { title: "NAME", text: ({ name }) => name ?? "-", shrinkTo: 8 },
  { title: "VOLUME", text: ({ volume, volumeName }) => volumeName ?? volume, shrinkTo: 8 },
  { title: "SIZE", text: ({ sizeBytes }) => formatSize(sizeBytes), align: "right" },
  { title: "AGE", text: ({ createdAt }) => ageText(createdAt), align: "right", dropOrder: 1 },
];

/** What `vol show` prints. */
export function volumeText(volume: Volume, style: Style): string {
  const { statistics, owner, source } = volume;
  const colour = stateColour(volume, style) ?? ((text: string) => text);
  const limits = [
    volume.iops === null ? undefined : `${volume.iops} requests a second`,
    volume.bandwidth === null ? undefined : `${formatSize(volume.bandwidth)} a second`,
  ].filter((limit) => limit !== undefined);
  const rows: [string, string | null | undefined][] = [
    ["name", volume.name],
    ["state", colour(volume.state)],
    ["machine", volume.machine],
    ["problem", volume.problem],
    ["size", formatSize(volume.sizeBytes)],
    ["stored", volume.storedBytes === null ? undefined : formatSize(volume.storedBytes)],
    ["waiting", volume.walBytes === 0 ? undefined : `${formatSize(volume.walBytes)} in ${volume.directory}`],
    ["durability", volume.durability],
    ["compression", volume.compression],
    ["encrypted", volume.encrypted ? "yes" : "no"],
    ["limits", limits.length === 0 ? "none" : limits.join(", ")],
    ["store", volume.store.endpoint ?? "this host's object storage"],
    ["bucket", `${volume.store.bucket}/${volume.id}/`],
    ["clone of", source === null ? undefined : `${source.snapshot} of ${source.volume}`],
    ["open on", owner === null ? undefined : `${owner.host} since ${owner.since}`],
    ["created", volume.createdAt],
    ["socket", volume.socket],
    ["written", statistics === null ? undefined : traffic(statistics.bytesWritten, statistics.bytesToStore)],
    ["read", statistics === null ? undefined : traffic(statistics.bytesRead, statistics.bytesFromStore)],
  ];
  const shown = rows.filter((row): row is [string, string] => row[1] !== null && row[1] !== undefined);
  const lines = shown.map(([title, text]) => `  ${title.padEnd(12)}${plain(text, style)}`);
  const snapshots = volume.snapshots.map(({ id, name, createdAt }) => {
    return `  ${"snapshot".padEnd(12)}${id}${name === null ? "" : ` ${name}`}, ${ageText(createdAt)} ago`;
  });
  return `${[style.bold(volume.id), ...lines, ...snapshots].join("\n")}\n`;
}

/** Colours of our own stay. */
function plain(text: string, style: Style): string {
  return text.startsWith("\x1b") && style.bold("x") !== "x" ? text : printable(text);
}

const traffic = (here: number, store: number) =>
  `${formatSize(here)} since it was opened; ${formatSize(store)} over the way to its store`;

const shownLosses = 8;

/** What `vol check` prints. */
export function checkText({ volume, findings, blocks, bytes, chunks }: VolumeCheckReport): string {
  const read = `${blocks} blocks in ${chunks} chunks, ${formatSize(bytes)}, were read`;
  const lines = findings.map(({ kind, object, why, lost }) => {
    const bytesLost = lost.reduce((sum, { length }) => sum + length, 0);
    const ranges = lost.slice(0, shownLosses).map(({ offset, length }) => `${offset}+${length}`);
    const more = lost.length > shownLosses ? `, and ${lost.length - shownLosses} more` : "";
    const loss =
      bytesLost === 0
        ? "nothing of the volume is lost"
        : `lost: ${formatSize(bytesLost)} at ${ranges.join(", ")}${more}`;
    return `${kind}: ${printable(object)}: ${printable(why)}; ${loss}`;
  });
  const damaged = findings.filter(({ lost, kind }) => lost.length > 0 || kind !== "orphan").length;
  const verdict = damaged === 0 ? `${volume} is whole` : `${volume} is damaged`;
  return `${[...lines, `${verdict}: ${read}`].join("\n")}\n`;
}

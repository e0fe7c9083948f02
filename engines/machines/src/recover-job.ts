import type { Machine } from "./machine.ts";

/** What became of a verb on a machine that a killed skepd left half done; one that was to start it starts it. */
export async function recoverJob(
  machine: Machine | undefined,
  kind: string,
  request: unknown,
  start: () => Promise<unknown>,
): Promise<"finished" | "undone"> {
  const wanted = request as { start?: boolean } | null;
  if (kind === "machine.remove") return machine === undefined ? "finished" : "undone";
  if (machine === undefined) return "undone";
  const starts =
    kind === "machine.start" ||
    kind === "machine.restart" ||
    (kind === "machine.create" && wanted?.start === true);
  if (starts) await start();
  if (kind === "machine.stop") return machine.live === undefined ? "finished" : "undone";
  return starts || kind === "machine.create" ? "finished" : "undone";
}

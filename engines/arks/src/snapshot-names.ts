import type { Machine } from "@skep/machines";
import { readSnapshots } from "./snapshot-file.ts";

/** `<stem>-N`, with a number above all that are there: what was removed last is not taken for what is made next. */
export async function freeName(
  { name, paths }: Pick<Machine, "name" | "paths">,
  stem: string,
): Promise<string> {
  const { snapshots, damaged } = await readSnapshots(name, paths.directory);
  const numbers = [...snapshots, ...damaged].map((one) => {
    const [, number] = new RegExp(`^${stem}-(\\d{1,9})$`).exec(one.name) ?? [];
    return Number(number ?? 0);
  });
  return `${stem}-${Math.max(0, ...numbers) + 1}`;
}

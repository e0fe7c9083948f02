import { allFiles, type Context } from "./context.ts";
import { digestsOfDamaged } from "./damaged.ts";

/** Digests of images that machines stand on, with the machines' names. */
export function usedImages(context: Context): Map<string, string[]> {
  const { home, damaged } = context;
  const used = new Map<string, string[]>();
  const add = (digest: string, name: string) => used.set(digest, [...(used.get(digest) ?? []), name]);
  for (const { image, name } of allFiles(context)) if (image !== null) add(image.digest, name);
  for (const name of damaged.keys()) {
    for (const digest of digestsOfDamaged(home, name)) add(digest, name);
  }
  return used;
}

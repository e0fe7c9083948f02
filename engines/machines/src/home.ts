import { chmod, mkdir, stat } from "node:fs/promises";
import { isRoot } from "./host-user.ts";
import { homePaths } from "./paths.ts";

/**
 * Makes the directories of a home; QEMU's users pass through, nobody else sees inside. A home that is
 * there already, which may be anything (`/srv`), is only opened as far as QEMU needs it.
 */
export async function prepareHome(home: string): Promise<void> {
  const { machines, layers } = homePaths(home);
  const mode = isRoot ? 0o711 : 0o700;
  await mkdir(home, { recursive: true, mode });
  if (isRoot) await chmod(home, ((await stat(home)).mode & 0o7777) | 0o111);
  for (const directory of [machines, layers]) {
    await mkdir(directory, { recursive: true, mode });
    await chmod(directory, mode);
  }
}

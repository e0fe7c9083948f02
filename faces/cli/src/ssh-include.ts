import { realpath } from "node:fs/promises";
import { join } from "node:path";
import { ensureDirectory, readFileIfThere, writeFileAtomic } from "@skep/base";

/**
 * Sees that `DIRECTORY/config` includes `file`: one line at the top (an Include further down would
 * belong to the Host block above it). All other content stays as it is, byte for byte.
 */
export async function includeConfig(
  directory: string,
  file: string,
): Promise<{ path: string; added: boolean }> {
  await ensureDirectory(directory);
  const named = join(directory, "config");
  const path = await realpath(named).catch(() => named); // dotfiles are often links
  const before = (await readFileIfThere(path)) ?? "";
  const quoted = /\s/.test(file) ? `"${file}"` : file;
  const line = `Include ${quoted}`;
  if (before.split(/\r?\n/).some((text) => text.trim() === line)) return { path, added: false };
  await writeFileAtomic(path, `${line}\n${before === "" ? "" : `\n${before}`}`, 0o600);
  return { path, added: true };
}

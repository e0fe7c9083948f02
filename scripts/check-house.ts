/** House rules that no linter knows: the lock file names no registry, and files stay short. */
import { execFileSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";

const longestFile = 450;

interface LockEntry {
  resolved?: string;
  integrity?: string;
  link?: boolean;
  optionalDependencies?: Record<string, string>;
}

/**
 * Addresses in the lock file would bind every clone to the registry of whoever wrote it, and npm ci
 * refuses one that lacks an optional package of another platform (npm omits those that it could not
 * fetch when it wrote the file).
 */
export function lockFileProblems(lockFile: string): string[] {
  const { packages = {} } = JSON.parse(lockFile) as { packages?: Record<string, LockEntry> };
  const names = Object.keys(packages);
  return Object.entries(packages).flatMap(([path, entry]) => {
    const problems = Object.keys(entry.optionalDependencies ?? {})
      .filter((name) => !names.some((other) => other.endsWith(`node_modules/${name}`)))
      .map((name) => `package-lock.json: ${name}, which "${path}" wants, has no entry`);
    if (!path.startsWith("node_modules/") || entry.link) return problems;
    if (entry.resolved?.includes("://")) {
      problems.push(`package-lock.json: ${path} has an address; write it with the .npmrc of this checkout`);
    }
    if (entry.integrity === undefined) problems.push(`package-lock.json: ${path} has no integrity`);
    return problems;
  });
}

function longFiles(root: string): string[] {
  return execFileSync("git", ["ls-files", "-z", "*.ts", "*.sh", "*.js"], { cwd: root, encoding: "utf8" })
    .split("\0")
    .filter((file) => file !== "" && !file.includes("/generated/") && existsSync(join(root, file)))
    .flatMap((file) => {
      const lines = readFileSync(join(root, file), "utf8").split("\n").length - 1;
      return lines > longestFile ? [`${file}: ${lines} lines; does it hold two nouns?`] : [];
    });
}

if (import.meta.main) {
  const root = resolve(import.meta.dirname, "..");
  for (const warning of longFiles(root)) console.warn(`warning: ${warning}`);
  const problems = lockFileProblems(readFileSync(join(root, "package-lock.json"), "utf8"));
  for (const problem of problems) console.error(problem);
  process.exitCode = problems.length > 0 ? 1 : 0;
}

import { fail } from "./errors.ts";

/** `NAME=VALUE`, or `NAME` alone: the value that it has here. */
export function parseEnvironment(
  entries: readonly string[],
  environment: NodeJS.ProcessEnv = process.env,
): Record<string, string> {
  const result: Record<string, string> = {};
  for (const entry of entries) {
    const split = entry.indexOf("=");
    const name = split < 0 ? entry : entry.slice(0, split);
    if (!/^[A-Za-z_][A-Za-z0-9_]*$/.test(name)) {
      throw fail("ENV_INVALID", { value: entry.slice(0, 80), why: "does not begin with a variable's name" });
    }
    const value = split < 0 ? environment[name] : entry.slice(split + 1);
    if (value === undefined) throw fail("ENV_INVALID", { value: name, why: "is not set here" });
    if (value.includes("\0")) throw fail("ENV_INVALID", { value: name, why: "holds a zero byte" });
    result[name] = value;
  }
  return result;
}

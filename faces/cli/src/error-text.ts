import type { SkepError } from "@skep/base";
import { styleFor } from "./style.ts";

/** How an error looks: on a terminal, in a pipe, and with --json. */
export function formatError(error: SkepError, options: { json: boolean; verbose: boolean }): string {
  if (options.json) return `${JSON.stringify({ error })}\n`;
  const style = styleFor(process.stderr);
  const lines = [`${style.red("skep:")} ${error.message.trimEnd()}`];
  if (error.hint !== undefined && error.hint !== "") lines.push(style.dim(`  ${error.hint}`));
  if (options.verbose) {
    for (let cause = error.cause; cause instanceof Error; cause = cause.cause)
      lines.push(cause.stack ?? cause.message);
  }
  return `${lines.join("\n")}\n`;
}

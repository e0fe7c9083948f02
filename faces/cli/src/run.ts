import { toSkepError } from "@skep/base";
import { formatError } from "./error-text.ts";
import { styleFor } from "./style.ts";

/** Options before `--`, where they are wanted although the command line could not be understood. */
function mentions(args: readonly string[], option: string): boolean {
  const end = args.indexOf("--");
  return args.slice(0, end < 0 ? undefined : end).includes(option);
}

/** Runs the command line and resolves with the exit status: 0, 1 failed, 2 usage, or the remote command's. */
export async function main(args: readonly string[]): Promise<number> {
  process.stdout.on("error", (error: NodeJS.ErrnoException) => {
    if (error.code === "EPIPE") process.exit(0); // `skep ls | head -1` is no failure
    throw error;
  });
  try {
    const first = args[0];
    if (
      first === undefined ||
      first === "--help" ||
      first === "-h" ||
      (first === "help" && args.length === 1)
    ) {
      const { overview } = await import("./help.ts");
      process.stdout.write(overview(styleFor(process.stdout)));
      return 0;
    }
    if (first === "--version" || first === "-V") return await main(["version", ...args.slice(1)]);
    if (first === "__complete") {
      const { complete } = await import("./complete.ts");
      return await complete(args.slice(1));
    }
    const { runCommandLine } = await import("./program.ts");
    await runCommandLine(first === "help" ? [...args.slice(1), "--help"] : args);
    return Number(process.exitCode ?? 0);
  } catch (thrown) {
    const error = toSkepError(thrown);
    const json = mentions(args, "--json");
    process.stderr.write(formatError(error, { json, verbose: mentions(args, "--verbose") }));
    if (error.code === "CANCELLED") return 130;
    return error.status === 400 ? 2 : 1;
  }
}

import { type Command, Option } from "commander";

/** What every verb takes, before or after its name. */
export interface GlobalOptions {
  host?: string;
  home?: string;
  json?: boolean;
  quiet?: boolean;
  verbose?: boolean;
}

const globals: readonly [flags: string, description: string][] = [
  ["--host <url>", "drive the skepd at https://HOST:8440 (or SKEP_HOST)"],
  ["--home <directory>", "where machines and images are kept (or SKEP_HOME)"],
  ["--json", "print results, and errors, as JSON"],
  ["-q, --quiet", "print names only, and no progress"],
  ["--verbose", "say more: causes of errors, what skepd is started with"],
];

/** Adds the global options to a command and to all below it. */
export function addGlobals(command: Command): void {
  for (const [flags, description] of globals) {
    const option = new Option(flags, description).helpGroup("Global options:");
    const taken = command.options.some((other) => other.long === option.long);
    if (!taken) command.addOption(option);
  }
  command.addHelpOption(new Option("-h, --help", "show this help").helpGroup("Global options:"));
  for (const child of command.commands) addGlobals(child);
}

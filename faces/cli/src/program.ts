import { Command, CommanderError } from "commander";
import { fail } from "./errors.ts";
import { addGlobals } from "./globals.ts";
import { overview } from "./help.ts";
import { didYouMean } from "./nearest.ts";
import { styleFor } from "./style.ts";
import { type Verb, verbs } from "./verbs.ts";

/** Words people bring along from other tools. */
const aliases: Record<string, string> = {
  list: "ls",
  ps: "ls",
  remove: "rm",
  delete: "rm",
  create: "new",
  images: "image",
  volume: "vol",
  volumes: "vol",
  ssh: "shell",
  log: "logs",
};

function findVerb(name: string): Verb {
  const found = verbs.find((verb) => verb.name === name);
  if (found !== undefined) return found;
  const meant = Object.hasOwn(aliases, name) ? `; did you mean "${aliases[name]}"?` : undefined;
  throw fail("VERB_UNKNOWN", {
    verb: name.slice(0, 60),
    nearest:
      meant ??
      didYouMean(
        name,
        verbs.map((verb) => verb.name),
      ),
  });
}

/** The command tree of one verb, below `skep`. */
async function loadVerb(program: Command, verb: Verb, args: readonly string[] = []): Promise<Command> {
  const command = program.command(verb.name).description(verb.summary);
  const { define } = await verb.load();
  define(command, args);
  addGlobals(command);
  return command;
}

function emptyProgram(): Command {
  const program = new Command("skep");
  program.enablePositionalOptions().helpCommand(false);
  program.configureHelp({ showGlobalOptions: false, sortSubcommands: false });
  program.configureOutput({ outputError: () => {} }); // reported once, by the caller, in skep's own form
  program.exitOverride();
  addGlobals(program);
  return program;
}

/** The whole tree, for completion and its tests. */
export async function fullProgram(): Promise<Command> {
  const program = emptyProgram();
  for (const verb of verbs) await loadVerb(program, verb);
  return program;
}

function inherit(command: Command, from: Command): void {
  for (const child of command.commands) {
    child.copyInheritedSettings(from).helpCommand(false);
    inherit(child, from);
  }
}

const valued = new Set(["--host", "--home"]);

/** The verb's place in the arguments: the first word that belongs to no global option. */
export function verbIndex(args: readonly string[]): number {
  for (let index = 0; index < args.length; index += 1) {
    const word = args[index]!;
    if (valued.has(word)) index += 1;
    else if (!word.startsWith("-") || word === "--") return index;
  }
  return -1;
}

/** Runs one command line (without `node skep`). Failures are thrown; usage errors have status 400. */
export async function runCommandLine(args: readonly string[]): Promise<void> {
  const place = verbIndex(args);
  const program = emptyProgram();
  const name = args[place];
  if (name !== undefined) await loadVerb(program, findVerb(name), args);
  else program.action(() => program.outputHelp()).helpInformation = () => overview(styleFor(process.stdout));
  inherit(program, program);
  try {
    await program.parseAsync([...args], { from: "user" });
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    if (error.exitCode === 0) return;
    if (error.code === "commander.help") {
      process.exitCode = 2; // a group of verbs without one of them: its help was printed
      return;
    }
    const message = error.message.replace(/^error: /, "").split("\n")[0]!;
    const suggestion = /\(Did you mean (.*)\?\)/.exec(error.message)?.[1];
    const help = name === undefined ? "see: skep --help" : `see: skep help ${name}`;
    throw fail(
      "USAGE",
      { message, hint: suggestion === undefined ? help : `did you mean ${suggestion}? ${help}` },
      { cause: error },
    );
  }
}

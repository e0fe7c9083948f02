import type { Style } from "./style.ts";
import { type Verb, verbs } from "./verbs.ts";

const titles: Record<Verb["group"], string> = {
  machines: "Machines",
  images: "Images",
  volumes: "Volumes",
  storage: "Object storage",
  access: "Access",
  host: "Host",
};

const globalLines = [
  ["--host URL", "drive the skepd at https://HOST:8440 (or SKEP_HOST)"],
  ["--home DIRECTORY", "where machines and images are kept (or SKEP_HOME)"],
  ["--json", "print results, and errors, as JSON"],
  ["-q, --quiet", "print names only, and no progress"],
  ["--verbose", "say more about errors and about skepd"],
] as const;

/** What `skep` and `skep --help` print. */
export function overview(style: Style): string {
  const line = ([left, right]: readonly [string, string]) => `  ${left.padEnd(16)}  ${right}`;
  const groups = (Object.keys(titles) as Verb["group"][]).map((group) => {
    const members = verbs.filter((verb) => verb.group === group);
    return [style.bold(titles[group]), ...members.map((verb) => line([verb.name, verb.summary]))].join("\n");
  });
  return [
    `${style.bold("skep")} runs virtual machines.  ${style.dim("skep VERB [OPTIONS] [NAME…]")}`,
    ...groups,
    [style.bold("Options"), ...globalLines.map(line)].join("\n"),
    [
      style.bold("To begin"),
      "  skep new web --start      make a machine and start it",
      "  skep shell web            get a prompt in it",
      "  skep help VERB            say more about a verb",
    ].join("\n"),
  ]
    .join("\n\n")
    .concat("\n");
}

import { realpath, stat } from "node:fs/promises";
import { homedir } from "node:os";
import { dirname, join } from "node:path";
import { ensureDirectory, isErrno, readFileIfThere, writeFileAtomic } from "@skep/base";
import { fail, usage } from "./errors.ts";

/** What AWS tools read. Source: AWS SDKs reference guide, "Shared config and credentials files". */
export interface AwsPaths {
  credentials: string;
  config: string;
}

type Settings = Readonly<Record<string, string | undefined>>;

export function awsPaths(environment: NodeJS.ProcessEnv = process.env): AwsPaths {
  const inHome = (named: string | undefined, name: string) =>
    named ? named.replace(/^~(?=\/|$)/, homedir()) : join(homedir(), ".aws", name);
  return {
    credentials: inHome(environment.AWS_SHARED_CREDENTIALS_FILE, "credentials"),
    config: inHome(environment.AWS_CONFIG_FILE, "config"),
  };
}

export function checkProfile(name: string): string {
  if (/^[\w.@+-]{1,64}$/.test(name)) return name;
  throw usage(`profile "${name.slice(0, 80)}" is not a profile's name`, "use letters, digits, and . _ - + @");
}

/** The profile to work on: the one named, `$AWS_PROFILE`, or `skep`, so that nobody's default is touched. */
export function chosenProfile(named: string | undefined, environment = process.env): string {
  return checkProfile(named ?? (environment.AWS_PROFILE || environment.AWS_DEFAULT_PROFILE || "skep"));
}

/** In the config file a profile's section has a prefix, but for `default`. */
function sectionOf(file: keyof AwsPaths, profile: string): string {
  return file === "credentials" || profile === "default" ? profile : `profile ${profile}`;
}

export async function readProfile(
  paths: AwsPaths,
  file: keyof AwsPaths,
  profile: string,
): Promise<Record<string, string>> {
  const text = (await readFileIfThere(paths[file])) ?? "";
  return settingsOf(text, sectionOf(file, profile));
}

/** Sets some settings of a profile; other profiles, settings and comments stay as they are. */
export async function writeProfile(
  paths: AwsPaths,
  file: keyof AwsPaths,
  profile: string,
  settings: Settings,
): Promise<void> {
  const path = await followed(paths[file]);
  try {
    await ensureDirectory(dirname(path));
    const before = await readFileIfThere(path);
    const text = withSettings(before ?? "", sectionOf(file, profile), settings);
    if (text === before && file === "config") return;
    const mode = file === "credentials" || before === undefined ? 0o600 : (await stat(path)).mode & 0o777;
    await writeFileAtomic(path, text, mode);
  } catch (error) {
    throw fail("AWS_FILE", { path, why: (error as Error).message }, { cause: error });
  }
}

/** Whoever keeps the file elsewhere and links to it keeps the link. */
async function followed(path: string): Promise<string> {
  try {
    return await realpath(path);
  } catch (error) {
    if (isErrno(error, "ENOENT")) return path;
    throw fail("AWS_FILE", { path, why: (error as Error).message }, { cause: error });
  }
}

const header = /^\s*\[\s*(.*?)\s*\]\s*(?:[#;].*)?$/;

/** `[profile "a"]` and `[profile a]` are the same. */
function nameIn(line: string): string | undefined {
  const name = header.exec(line)?.[1];
  return name?.replace(/\s+/, " ").replace(/^(profile )?(["'])(.*)\2$/, "$1$3");
}

/** `name = value` at the line's beginning; indented lines belong to the setting above. */
function settingIn(line: string): { name: string; value: string } | undefined {
  const match = /^([^\s#;=[][^=]*?)\s*=\s*(.*?)\s*$/.exec(line);
  return match === null ? undefined : { name: match[1]!.toLowerCase(), value: match[2]! };
}

interface Section {
  /** The lines between its header and the next one's. */
  start: number;
  end: number;
}

function findSection(lines: readonly string[], section: string): Section | undefined {
  const at = lines.findIndex((line) => nameIn(line) === section);
  if (at < 0) return undefined;
  const next = lines.findIndex((line, index) => index > at && nameIn(line) !== undefined);
  return { start: at + 1, end: next < 0 ? lines.length : next };
}

export function settingsOf(text: string, section: string): Record<string, string> {
  const lines = text.split(/\r?\n/);
  const found = findSection(lines, section);
  if (found === undefined) return {};
  const settings = lines.slice(found.start, found.end).map(settingIn);
  return Object.fromEntries(
    settings.filter((one) => one !== undefined).map(({ name, value }) => [name, value]),
  );
}

/** The file's text with some settings of a section replaced, added, or (undefined) removed. */
export function withSettings(text: string, section: string, settings: Settings): string {
  const newline = text.includes("\r\n") ? "\r\n" : "\n";
  const lines = text === "" ? [] : text.replace(/\r?\n$/, "").split(/\r?\n/);
  const given = Object.entries(settings).filter(([, value]) => value !== undefined);
  const line = ([name, value]: [string, string | undefined]) => `${name} = ${value}`;
  const found = findSection(lines, section);
  if (found === undefined) {
    if (lines.length > 0 && lines.at(-1)?.trim() !== "") lines.push("");
    lines.push(`[${section}]`, ...given.map(line));
    return `${lines.join(newline)}${newline}`;
  }
  const waiting = new Map(given);
  const inside: string[] = [];
  let dropping = false;
  for (const old of lines.slice(found.start, found.end)) {
    const setting = settingIn(old);
    if (setting !== undefined) dropping = Object.hasOwn(settings, setting.name);
    else if (dropping && /^\s+\S/.test(old)) continue; // belonged to what was dropped
    if (setting === undefined || !dropping) {
      inside.push(old);
    } else if (waiting.has(setting.name)) {
      inside.push(line([setting.name, waiting.get(setting.name)]));
      waiting.delete(setting.name);
    }
  }
  // New settings stand behind the last one, before the blank lines and comments that lead to the next section.
  let at = inside.length;
  while (at > 0 && /^\s*(?:[#;].*)?$/.test(inside[at - 1]!)) at -= 1;
  inside.splice(at, 0, ...[...waiting].map(line));
  lines.splice(found.start, found.end - found.start, ...inside);
  return `${lines.join(newline)}${newline}`;
}

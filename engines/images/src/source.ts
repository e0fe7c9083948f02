import { createHash } from "node:crypto";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fail } from "./errors.ts";
import type { Recipe } from "./recipe.ts";

/** One apt source, whichever form it was written in (sources.list(5)). */
export interface AptSource {
  uris: string[];
  suites: string[];
  components: string[];
  /** `Signed-By` and other options, names as deb822 spells them. */
  options: Record<string, string>;
}

interface Distribution {
  keyring: string;
  keyringPackage: string;
  /** Repositories that the distribution itself signs. */
  components: ReadonlySet<string>;
}

const distributions: Record<Recipe["distribution"], Distribution> = {
  debian: {
    keyring: "/usr/share/keyrings/debian-archive-keyring.gpg",
    keyringPackage: "debian-archive-keyring",
    components: new Set(["main", "contrib", "non-free", "non-free-firmware"]),
  },
  ubuntu: {
    keyring: "/usr/share/keyrings/ubuntu-archive-keyring.gpg",
    keyringPackage: "ubuntu-keyring",
    components: new Set(["main", "restricted", "universe", "multiverse"]),
  },
};

const pockets = ["", "-updates", "-security"];

/** Where the packages of a build come from, and what is needed to trust them. */
export interface BuildSource {
  sources: AptSource[];
  /** deb822 text: given to mmdebstrap, and left in the image. */
  text: string;
  /** Keyrings that the text names, to be there in the image too. */
  keyrings: string[];
  /** For people: `this host's sources` or `the named source`. */
  origin: string;
  digest: string;
}

/**
 * The source the user named, or this host's own with everything dropped that is not the distribution's:
 * a third party's repository must not come into an image.
 */
export function buildSource(recipe: Recipe, named: string | undefined, etcApt = "/etc/apt"): BuildSource {
  const distribution = distributions[recipe.distribution];
  const sources =
    named === undefined ? hostSources(recipe, distribution, etcApt) : namedSources(recipe, named);
  if (sources.length === 0) throw fail("SOURCE_MISSING", { ...recipe });
  const keyrings = new Set<string>();
  for (const source of sources) {
    const signedBy = source.options["Signed-By"];
    const unsigned = source.options.Trusted === "yes";
    if (signedBy === undefined && !unsigned) source.options["Signed-By"] = distribution.keyring;
    const keyring = source.options["Signed-By"];
    if (keyring === undefined || !keyring.startsWith("/")) continue; // unsigned, or the key itself
    if (!existsSync(keyring)) {
      const { distribution: name } = recipe;
      throw fail("KEYRING_MISSING", {
        path: keyring,
        distribution: name,
        package: distribution.keyringPackage,
      });
    }
    keyrings.add(keyring);
  }
  const text = sources.map(formatSource).join("\n");
  return {
    sources,
    text,
    keyrings: [...keyrings],
    origin: named === undefined ? "this host's apt sources" : "the named apt source",
    digest: createHash("sha256").update(text).digest("hex"),
  };
}

function hostSources(recipe: Recipe, distribution: Distribution, etcApt: string): AptSource[] {
  const official = readHostSources(etcApt).filter((source) => isOfficial(source, distribution));
  const exact = official.filter((source) => suiteOf(source, recipe.suite));
  const pick = exact.length > 0 ? exact : otherRelease(official, recipe);
  return pick.map((source) => ({
    uris: source.uris,
    suites: source.suites.filter((suite) => pockets.some((pocket) => suite === recipe.suite + pocket)),
    components: recipe.components,
    options: Object.fromEntries(Object.entries(source.options).filter(([name]) => name === "Signed-By")),
  }));
}

/** Every source of the host, in apt's order; what cannot be read is apt's business, not ours. */
function readHostSources(etcApt: string): AptSource[] {
  const parts = join(etcApt, "sources.list.d");
  const files = [join(etcApt, "sources.list")];
  if (existsSync(parts))
    files.push(
      ...readdirSync(parts)
        .sort()
        .map((file) => join(parts, file)),
    );
  return files.flatMap((file) => {
    if (!existsSync(file)) return [];
    if (file.endsWith(".sources")) return parseDeb822(readFileSync(file, "utf8"));
    return file.endsWith(".list") ? parseOneLine(readFileSync(file, "utf8")) : [];
  });
}

function isOfficial(source: AptSource, distribution: Distribution): boolean {
  const signedBy = source.options["Signed-By"];
  const archiveKeyring =
    /^(?:\/usr\/share|\/etc\/apt)\/(?:keyrings|trusted\.gpg\.d)\/(?:debian|ubuntu)-archive-[\w.-]+$/;
  if (signedBy !== undefined && !archiveKeyring.test(signedBy)) return false;
  const web = source.uris.every((uri) => /^(?:https?|file|copy|mirror\+\w+|tor\+https?|cdrom):/.test(uri));
  const component = source.components.some((one) => distribution.components.has(one));
  return web && component && !source.uris.some((uri) => uri.startsWith("cdrom:"));
}

function suiteOf(source: AptSource, release: string): boolean {
  return source.suites.some((suite) => pockets.some((pocket) => suite === release + pocket));
}

/** A mirror holds all releases: on a host of another release its address serves as well. */
function otherRelease(official: AptSource[], recipe: Recipe): AptSource[] {
  const hostRelease = /^VERSION_CODENAME=(.*)$/m.exec(osRelease())?.[1];
  const hostDistribution = /^ID=(.*)$/m.exec(osRelease())?.[1];
  if (hostRelease === undefined || hostDistribution !== recipe.distribution) return [];
  return official
    .filter((source) => suiteOf(source, hostRelease))
    .map((source) => ({
      ...source,
      suites: source.suites.map((suite) => suite.replace(hostRelease, recipe.suite)),
    }));
}

function osRelease(): string {
  return existsSync("/etc/os-release") ? readFileSync("/etc/os-release", "utf8") : "";
}

function namedSources(recipe: Recipe, text: string): AptSource[] {
  if (text.length > 262_144 || text.includes("\0")) throw fail("SOURCE_INVALID", { why: "it is too long" });
  const short = /^\s*([a-z][a-z0-9-]*)\s+([a-z][a-z0-9+]*:\/?\/?\S+)((?:\s+[\w.-]+)*)\s*$/.exec(text);
  if (short !== null && short[1] !== "deb") {
    const components = short[3]?.trim().split(/\s+/).filter(Boolean) ?? [];
    const chosen = components.length > 0 ? components : recipe.components;
    return [{ uris: [short[2] as string], suites: [short[1] as string], components: chosen, options: {} }];
  }
  const sources = /^types\s*:/im.test(text) ? parseDeb822(text) : parseOneLine(text);
  if (sources.length === 0) throw fail("SOURCE_INVALID", { why: "it has no deb entry" });
  for (const source of sources) {
    if (source.uris.length === 0 || source.suites.length === 0) {
      throw fail("SOURCE_INVALID", { why: "an entry names no URI or no suite" });
    }
  }
  return sources;
}

const optionNames: Record<string, string> = { "signed-by": "Signed-By", trusted: "Trusted" };

/** `deb [signed-by=…] URI SUITE COMPONENT…` lines. */
export function parseOneLine(text: string): AptSource[] {
  const sources: AptSource[] = [];
  for (const line of text.split(/\r?\n/)) {
    const match = /^\s*deb\s+(?:\[([^\]]*)\]\s+)?(\S+)\s+(\S+)([^#]*)/.exec(line);
    if (match === null) continue;
    const [, bracket = "", uri = "", suite = "", rest = ""] = match;
    const options: Record<string, string> = {};
    for (const pair of bracket.split(/\s+/)) {
      const [key = "", value = ""] = pair.split(/=(.*)/s);
      const name = optionNames[key.toLowerCase()];
      if (name !== undefined) options[name] = value;
    }
    sources.push({ uris: [uri], suites: [suite], components: rest.split(/\s+/).filter(Boolean), options });
  }
  return sources;
}

/** deb822 stanzas; disabled ones and sources of source packages are left out. */
export function parseDeb822(text: string): AptSource[] {
  const sources: AptSource[] = [];
  for (const stanza of text.split(/\n\s*\n/)) {
    const fields = new Map<string, string>();
    let last: string | undefined;
    for (const line of stanza.split(/\r?\n/)) {
      if (line.startsWith("#") || line.trim() === "") continue;
      const match = /^([A-Za-z-]+)\s*:\s*(.*)$/.exec(line);
      if (match !== null) {
        last = (match[1] as string).toLowerCase();
        fields.set(last, match[2] as string);
      } else if (last !== undefined) fields.set(last, `${fields.get(last)}\n${line}`);
    }
    const words = (key: string) => (fields.get(key) ?? "").split(/\s+/).filter(Boolean);
    if (!words("types").includes("deb") || /^no$/i.test(fields.get("enabled")?.trim() ?? "")) continue;
    const options: Record<string, string> = {};
    for (const [key, name] of Object.entries(optionNames)) {
      const value = fields.get(key);
      if (value !== undefined) options[name] = value.trimEnd();
    }
    sources.push({ uris: words("uris"), suites: words("suites"), components: words("components"), options });
  }
  return sources;
}

function formatSource(source: AptSource): string {
  const lines = ["Types: deb", `URIs: ${source.uris.join(" ")}`, `Suites: ${source.suites.join(" ")}`];
  if (source.components.length > 0) lines.push(`Components: ${source.components.join(" ")}`);
  for (const [name, value] of Object.entries(source.options)) lines.push(`${name}: ${value}`);
  return `${lines.join("\n")}\n`;
}

/**
 * The house rule (DESIGN.md, section 1): which room may import which, only through its package, and
 * only what its package.json names. `node scripts/check-imports.ts [ROOT]`
 */
import { existsSync, globSync, readdirSync, readFileSync } from "node:fs";
import { isBuiltin } from "node:module";
import { dirname, join, relative, resolve, sep } from "node:path";

const floors = ["protocols", "engines", "faces", "apps"] as const;
type Floor = (typeof floors)[number];

/** A room may use those before it. */
const engineOrder = ["accounts", "objects", "volumes", "images", "machines", "arks", "fleet"];

/** Stricter than its floor: the thin client. sigv4: `auth` tries keys itself, so that nobody else sees them. */
const allowedOnly: Record<string, readonly string[]> = { "faces/cli": ["base", "api", "sigv4"] };

/** Import from anywhere, as they wire or test the whole. */
const outside = ["test", "bench", "scripts"];

interface PackageJson {
  name?: string;
  exports?: Record<string, unknown>;
  dependencies?: Record<string, string>;
  devDependencies?: Record<string, string>;
}

interface Room {
  floor: Floor;
  name: string;
  /** `engines/images` */
  path: string;
  package: PackageJson;
}

/** What each file imports, statically, dynamically or as types. */
export function importsOf(source: string): string[] {
  const fromHead = /^(?:import|export)\s(?:[^"';]*?\sfrom\s)?"([^"\n]+)"/gm;
  const inline = /(?<![#.\w])(?:import|import\.meta\.resolve|require)\(\s*"([^"\n]+)"/g;
  return [...source.matchAll(fromHead), ...source.matchAll(inline)].map((match) => match[1]!);
}

/** Every breach of the rule below `root`, a line each; empty when all is well. */
export function checkImports(root: string): string[] {
  const problems: string[] = [];
  const rooms = findRooms(root, problems);
  const tools = Object.keys(readPackage(root).devDependencies ?? {});
  for (const room of rooms.values()) problems.push(...checkRoom(root, room, rooms, tools));
  for (const folder of outside) {
    for (const file of sourceFiles(root, folder)) {
      for (const name of importsOf(readFileSync(join(root, file), "utf8"))) {
        const problem = checkOutside(root, folder, file, name, rooms, tools);
        if (problem !== undefined) problems.push(`${file}: ${problem}`);
      }
    }
  }
  return problems;
}

function findRooms(root: string, problems: string[]): Map<string, Room> {
  const rooms = new Map<string, Room>();
  for (const floor of floors) {
    if (!existsSync(join(root, floor))) continue;
    for (const name of readdirSync(join(root, floor)).sort()) {
      const path = `${floor}/${name}`;
      if (!existsSync(join(root, path, "package.json"))) continue;
      const room: Room = { floor, name, path, package: readPackage(join(root, path)) };
      if (room.package.name !== `@skep/${name}`) {
        problems.push(`${path}/package.json: its name is not @skep/${name}`);
      }
      if (floor === "engines" && !engineOrder.includes(name)) {
        problems.push(
          `${path}: not in the order of engines (${engineOrder.join(", ")}); add it to scripts/check-imports.ts`,
        );
      }
      rooms.set(name, room);
    }
  }
  return rooms;
}

function checkRoom(root: string, room: Room, rooms: Map<string, Room>, tools: string[]): string[] {
  const problems: string[] = [];
  const dependencies = Object.keys(room.package.dependencies ?? {});
  const forTests = [...Object.keys(room.package.devDependencies ?? {}), ...tools];
  const used = new Set<string>();
  for (const file of sourceFiles(root, room.path)) {
    for (const name of importsOf(readFileSync(join(root, file), "utf8"))) {
      if (isBuiltin(name)) continue;
      const problem = name.startsWith(".")
        ? leaves(root, room.path, file, name)
        : checkPackageImport(room, name, file.endsWith(".test.ts"));
      if (problem !== undefined) problems.push(`${file}: ${problem}`);
    }
  }
  for (const name of dependencies) {
    if (!used.has(name)) problems.push(`${room.path}/package.json: names ${name}, which nothing there uses`);
  }
  return problems;

  function checkPackageImport(from: Room, name: string, isTest: boolean): string | undefined {
    const packageName = packageOf(name);
    used.add(packageName);
    if (packageName === `@skep/${from.name}`) return `imports its own room as ${name}: use a relative path`;
    if (packageName.startsWith("@skep/")) {
      const to = rooms.get(packageName.slice("@skep/".length));
      const problem = checkRoomImport(to, name) ?? forbidden(from, to!);
      if (problem !== undefined) return problem;
    }
    if (dependencies.includes(packageName) || (isTest && forTests.includes(packageName))) return undefined;
    return `uses ${packageName}, which ${from.path}/package.json does not name: add it to its dependencies`;
  }
}

/** Why a room may not use another, or undefined where it may. */
function forbidden(from: Room, to: Room): string | undefined {
  const may = allowedOnly[from.path];
  if (may !== undefined) {
    return may.includes(to.name)
      ? undefined
      : `${from.path} may not import ${to.path}: it may use only ${may.join(" and ")}`;
  }
  if (from.floor === "apps" && to.floor !== "apps") return undefined;
  if (floors.indexOf(to.floor) > floors.indexOf(from.floor)) {
    return `${from.path} may not import ${to.path}, which is on a higher floor`;
  }
  if (from.floor !== to.floor || to.path === "protocols/base") return undefined;
  if (from.floor === "engines") {
    return engineOrder.indexOf(to.name) < engineOrder.indexOf(from.name)
      ? undefined
      : `${from.path} may not import ${to.path}: the order of engines is ${engineOrder.join(", ")}`;
  }
  return `${from.path} may not import ${to.path}: ${from.floor} never import each other; only apps/ wires them`;
}

function checkRoomImport(to: Room | undefined, name: string): string | undefined {
  if (to === undefined) return `imports ${name}, and there is no such room`;
  const subpath = name.slice(packageOf(name).length);
  return `.${subpath}` in (to.package.exports ?? {})
    ? undefined
    : `imports ${name}, which the exports of ${to.path}/package.json do not show`;
}

function checkOutside(
  root: string,
  folder: string,
  file: string,
  name: string,
  rooms: Map<string, Room>,
  tools: string[],
): string | undefined {
  if (isBuiltin(name)) return undefined;
  if (name.startsWith(".")) return leaves(root, folder, file, name);
  const packageName = packageOf(name);
  if (packageName.startsWith("@skep/")) {
    return checkRoomImport(rooms.get(packageName.slice("@skep/".length)), name);
  }
  return tools.includes(packageName)
    ? undefined
    : `uses ${packageName}, which the devDependencies of package.json do not name`;
}

function leaves(root: string, folder: string, file: string, name: string): string | undefined {
  const target = resolve(root, dirname(file), name);
  return target.startsWith(resolve(root, folder) + sep)
    ? undefined
    : `reaches out of ${folder} to ${relative(root, target)}: import that room's package`;
}

function packageOf(name: string): string {
  return name
    .split("/")
    .slice(0, name.startsWith("@") ? 2 : 1)
    .join("/");
}

function sourceFiles(root: string, folder: string): string[] {
  return globSync(`${folder}/**/*.{ts,js,mjs}`, {
    cwd: root,
    exclude: (path) => /(?:^|\/)(?:node_modules|dist)$/.test(path),
  }).sort();
}

function readPackage(directory: string): PackageJson {
  return JSON.parse(readFileSync(join(directory, "package.json"), "utf8")) as PackageJson;
}

if (import.meta.main) {
  const problems = checkImports(process.argv[2] ?? resolve(import.meta.dirname, ".."));
  for (const problem of problems) console.error(problem);
  if (problems.length > 0) console.error(`\n${problems.length} import(s) against the house rule`);
  process.exitCode = problems.length > 0 ? 1 : 0;
}

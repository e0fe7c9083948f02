/**
 * `npm run build`: what would be published. Each room gets its `dist` (JavaScript and types, in the
 * order in which rooms use each other) and is checked with publint; build/skep becomes the package of
 * the command. With `--cli`, only the latter.
 */
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { cp, glob, mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { dirname, join, relative, resolve } from "node:path";
import { publint } from "publint";
import { formatMessage } from "publint/utils";
import { bundleCommand } from "./bundle.ts";

interface RoomPackage {
  name: string;
  files?: string[];
  dependencies?: Record<string, string>;
}

interface Room {
  /** `engines/images` */
  path: string;
  package: RoomPackage;
}

function compile(root: string, config: string): Promise<void> {
  return new Promise((done, failed) => {
    const args = [join(root, "node_modules/typescript/bin/tsc"), "-p", config];
    const child = spawn(process.execPath, args, { cwd: root, stdio: ["ignore", "inherit", "inherit"] });
    child.once("error", failed);
    child.once("close", (status, signal) => {
      if (status === 0) done();
      else failed(new Error(`the compiler failed (${signal ?? `status ${status}`})`));
    });
  });
}

/** All rooms that are published, each after those that it uses; apps only wire, and are bundled. */
async function roomsInOrder(root: string): Promise<Room[]> {
  const rooms = new Map<string, Room>();
  for await (const file of glob("{protocols,engines,faces}/*/package.json", { cwd: root })) {
    const manifest = JSON.parse(await readFile(join(root, file), "utf8")) as RoomPackage;
    rooms.set(manifest.name, { path: dirname(file), package: manifest });
  }
  const ordered = new Set<Room>();
  const visit = (room: Room) => {
    for (const name of Object.keys(room.package.dependencies ?? {})) {
      const used = rooms.get(name);
      if (used !== undefined && !ordered.has(used)) visit(used);
    }
    ordered.add(room);
  };
  for (const name of [...rooms.keys()].sort()) visit(rooms.get(name)!);
  return [...ordered];
}

/**
 * Compiles a room against the `dist` of the rooms it uses, as a user of the packages would. The
 * compiler's root is the room itself, as sources may import its package.json.
 */
async function buildRoom(root: string, room: Room): Promise<void> {
  const directory = join(root, room.path);
  await mkdir(join(root, "build"), { recursive: true });
  const work = await mkdtemp(join(root, "build", "room-"));
  try {
    const config = join(work, "tsconfig.json");
    const options = {
      rootDir: directory,
      outDir: join(work, "out"),
      typeRoots: [join(root, "node_modules/@types")],
    };
    const project = {
      extends: join(root, "tsconfig.build.json"),
      compilerOptions: options,
      include: [join(directory, "src")],
      exclude: ["*.test.ts", "*-fixture.ts", "test-*.ts", "testing.ts", "testing/*"].map((name) =>
        join(directory, "**", name),
      ),
    };
    await writeFile(config, JSON.stringify(project));
    await compile(root, config);
    await rm(join(directory, "dist"), { recursive: true, force: true });
    await cp(join(work, "out/src"), join(directory, "dist"), { recursive: true });
    if (room.package.name === "@skep/images") {
      await cp(join(root, "guest"), join(directory, "dist/guest"), { recursive: true });
    }
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

/** What publint finds in the packed package, and what the package forgets to ship. */
async function problemsOfPackage(root: string, room: Room): Promise<string[]> {
  const directory = join(root, room.path);
  const { messages, pkg } = await publint({ pkgDir: directory, pack: "npm", strict: true, level: "warning" });
  const problems = messages.map((message) => formatMessage(message, pkg, { color: false }) ?? message.code);
  if (existsSync(join(directory, "assets")) && !room.package.files?.includes("assets")) {
    problems.push('it has assets/, which "files" does not name');
  }
  return problems.map((problem) => `${room.path}: ${problem}`);
}

const root = resolve(import.meta.dirname, "..");
const problems: string[] = [];
if (!process.argv.includes("--cli")) {
  for (const room of await roomsInOrder(root)) {
    console.log(`building ${room.package.name}`);
    try {
      await buildRoom(root, room);
      problems.push(...(await problemsOfPackage(root, room)));
    } catch (error) {
      problems.push(`${room.path}: ${(error as Error).message}`);
    }
  }
}
const output = join(root, "build/skep");
console.log(`bundling skep into ${relative(process.cwd(), output)}`);
await bundleCommand(root, output);
const command = await publint({ pkgDir: output, pack: "npm", strict: true, level: "warning" });
problems.push(
  ...command.messages.map((message) => `skep: ${formatMessage(message, command.pkg, { color: false })}`),
);
for (const problem of problems) console.error(problem);
process.exitCode = problems.length > 0 ? 1 : 0;

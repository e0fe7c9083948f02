import { chmod, cp, glob, mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { type BuildOptions, build, type Plugin } from "esbuild";

/**
 * Libraries that are CommonJS ask for `require` and `__dirname`, which a module does not have.
 * Each bundled file gets its own.
 */
const commonJs = [
  `import { createRequire as skepCreateRequire } from "node:module";`,
  `const require = skepCreateRequire(import.meta.url);`,
  `const __filename = import.meta.filename, __dirname = import.meta.dirname;`,
].join("\n");

/**
 * Node fills a namespace object for every builtin that a module imports, and so calls every getter of it:
 * `import … from "node:http"` loads the whole of fetch and WebSocket, 50 ms on a slow machine. Taken
 * from the process, a builtin costs what is used of it; `lazy`, it costs nothing until it is used, and
 * a little at each use: for the command, most of whose verbs use few of those they import.
 */
const builtinsFromProcess = ({ lazy }: { lazy: boolean }): Plugin => ({
  name: "builtins-from-process",
  setup({ onResolve, onLoad }) {
    onResolve({ filter: /^node:/ }, ({ path, kind }) =>
      // A dynamic import is left to Node: from a CommonJS stand-in it would get no named exports.
      kind === "import-statement" ? { path, namespace: "builtin" } : undefined,
    );
    onLoad({ filter: /.*/, namespace: "builtin" }, ({ path }) => ({
      contents: lazy ? lazyBuiltin(path) : `module.exports = ${fromProcess(path)};`,
    }));
  },
});

const fromProcess = (path: string) => `process.getBuiltinModule(${JSON.stringify(path)})`;

function lazyBuiltin(path: string): string {
  const builtin = process.getBuiltinModule(path) as object;
  // One that is itself a function or a class must be there from the first.
  if (typeof builtin === "function") return `module.exports = ${fromProcess(path)};`;
  const names = JSON.stringify(Object.keys(builtin));
  return [
    "let builtin;",
    `for (const name of ${names}) Object.defineProperty(exports, name, {`,
    `  enumerable: true, get: () => (builtin ??= ${fromProcess(path)})[name],`,
    "});",
  ].join("\n");
}

const shared: BuildOptions = {
  bundle: true,
  platform: "node",
  format: "esm",
  target: "node24",
  conditions: ["skep-source"],
  minifySyntax: true,
  minifyWhitespace: true,
  legalComments: "linked",
  banner: { js: commonJs },
  // Optional accelerators in machine code: the libraries go on without them.
  external: ["*.node", "cpu-features", "bufferutil", "utf-8-validate"],
  logLevel: "warning",
};

interface HousePackage {
  version: string;
  description: string;
  license: string;
  optionalDependencies: Record<string, string>;
}

/**
 * Makes the package of the command in `output`: dist/skep.js with a chunk for each verb (so that a
 * verb loads only what it needs), dist/skepd.js and dist/storaged.js in one file each, the threads of both
 * and the assets of rooms and the guest's helper beside them, and bin/skep.
 */
export async function bundleCommand(root: string, output: string): Promise<void> {
  await rm(output, { recursive: true, force: true });
  const dist = join(output, "dist");
  await mkdir(join(output, "bin"), { recursive: true });
  await Promise.all([
    build({
      ...shared,
      entryPoints: [{ in: join(root, "faces/cli/src/main.ts"), out: "skep" }],
      plugins: [builtinsFromProcess({ lazy: true })],
      outdir: dist,
      splitting: true,
      chunkNames: "cli/[name]-[hash]",
    }),
    build({
      ...shared,
      entryPoints: [
        { in: join(root, "apps/skepd/src/main.ts"), out: "skepd" },
        // skepd starts it by this name beside itself
        { in: join(root, "engines/arks/src/memory-thread.ts"), out: "memory-thread" },
      ],
      plugins: [builtinsFromProcess({ lazy: false })],
      outdir: dist,
    }),
    build({
      ...shared,
      plugins: [builtinsFromProcess({ lazy: false })],
      entryPoints: [
        { in: join(root, "apps/storaged/src/main.ts"), out: "storaged" },
        // storaged starts them by these names beside itself
        ...["committer-thread", "reader-thread", "digest-thread"].map((name) => ({
          in: join(root, `engines/objects/src/host/${name}.ts`),
          out: name,
        })),
      ],
      outdir: dist,
    }),
  ]);
  for await (const assets of glob("{protocols,engines,faces,apps}/*/assets", { cwd: root })) {
    const name = `${basename(dirname(assets))}-assets`;
    await cp(join(root, assets), join(dist, name), { recursive: true });
  }
  await cp(join(root, "guest"), join(dist, "guest"), { recursive: true });
  const house = JSON.parse(await readFile(join(root, "package.json"), "utf8")) as HousePackage;
  const manifest = {
    name: "skep",
    version: house.version,
    description: house.description,
    license: house.license,
    type: "module",
    os: ["linux", "darwin"],
    bin: { skep: "bin/skep" },
    files: ["bin", "dist"],
    optionalDependencies: house.optionalDependencies,
  };
  await writeFile(join(output, "package.json"), `${JSON.stringify(manifest, null, 2)}\n`);
  await cp(join(root, "scripts/bin-skep.sh"), join(output, "bin/skep"));
  await chmod(join(output, "bin/skep"), 0o755);
  await cp(join(root, "LICENSE"), join(output, "LICENSE"));
}

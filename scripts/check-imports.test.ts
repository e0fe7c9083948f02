import assert from "node:assert/strict";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { checkImports, importsOf } from "./check-imports.ts";

/** A house with these files; a room without a package.json gets one that names `uses`. */
async function house(files: Record<string, string>, uses: Record<string, string[]> = {}): Promise<string> {
  const root = await mkdtemp("/tmp/skep-imports-");
  const all: Record<string, string> = {
    "package.json": JSON.stringify({ devDependencies: { typescript: "1" } }),
    ...files,
  };
  for (const path of Object.keys(files)) {
    const [floor, name] = path.split("/");
    if (!["protocols", "engines", "faces", "apps"].includes(floor ?? "")) continue;
    all[`${floor}/${name}/package.json`] ??= JSON.stringify({
      name: `@skep/${name}`,
      exports: { ".": "./src/index.ts" },
      dependencies: Object.fromEntries((uses[`${floor}/${name}`] ?? []).map((used) => [used, "1"])),
    });
  }
  for (const [path, text] of Object.entries(all)) {
    await mkdir(join(root, dirname(path)), { recursive: true });
    await writeFile(join(root, path), text);
  }
  return root;
}

async function problemsOf(files: Record<string, string>, uses?: Record<string, string[]>): Promise<string[]> {
  const root = await house(files, uses);
  try {
    return checkImports(root);
  } finally {
    await rm(root, { recursive: true });
  }
}

const uses = (name: string) => ["import x", `"${name}";\n`].join(" from ");
const base = { "protocols/base/src/index.ts": "export const a = 1;\n" };

test("static, dynamic and type imports are found, text in strings is not", () => {
  const source = [
    `import type { A } from "a";`,
    `import {\n  b,\n} from "b";`,
    `import "c";`,
    `export * from "d";`,
    `const e = await ${"import"}("e");`, // in two, or this file itself would seem to use it
    `let f: ${"import"}("f").F;`,
    `  const text = 'import x from "not-this"';`,
  ].join("\n");
  assert.deepEqual(importsOf(source), ["a", "b", "c", "d", "e", "f"]);
});

test("a lower floor, an earlier engine, builtins and named libraries may be used", async () => {
  const problems = await problemsOf(
    {
      ...base,
      "engines/images/src/index.ts": uses("@skep/base") + uses("node:fs") + uses("yaml"),
      "engines/machines/src/index.ts": uses("@skep/images") + uses("./other.ts"),
      "faces/control/src/index.ts": uses("@skep/machines"),
      "apps/skepd/src/index.ts": uses("@skep/control") + uses("@skep/images"),
      "test/whole.test.ts": uses("@skep/machines") + uses("typescript"),
    },
    {
      "engines/images": ["@skep/base", "yaml"],
      "engines/machines": ["@skep/images"],
      "faces/control": ["@skep/machines"],
      "apps/skepd": ["@skep/control", "@skep/images"],
    },
  );
  assert.deepEqual(problems, []);
});

const refused: [
  what: string,
  files: Record<string, string>,
  named: Record<string, string[]>,
  says: RegExp,
][] = [
  [
    "a higher floor",
    { "protocols/base/src/a.ts": uses("@skep/images"), "engines/images/src/index.ts": "" },
    { "protocols/base": ["@skep/images"] },
    /protocols\/base may not import engines\/images, which is on a higher floor/,
  ],
  [
    "a later engine",
    { "engines/images/src/a.ts": uses("@skep/machines"), "engines/machines/src/index.ts": "" },
    { "engines/images": ["@skep/machines"] },
    /the order of engines is accounts, objects, volumes, images, machines/,
  ],
  [
    "another face",
    { "faces/s3/src/a.ts": uses("@skep/ec2"), "faces/ec2/src/index.ts": "" },
    { "faces/s3": ["@skep/ec2"] },
    /faces never import each other/,
  ],
  [
    "an engine from the thin client",
    { "faces/cli/src/a.ts": uses("@skep/images"), "engines/images/src/index.ts": "" },
    { "faces/cli": ["@skep/images"] },
    /may use only base and api and sigv4/,
  ],
  [
    "another room by path",
    { ...base, "engines/images/src/a.ts": uses("../../../protocols/base/src/index.ts") },
    {},
    /reaches out of engines\/images to protocols\/base\/src\/index.ts/,
  ],
  [
    "what a room does not show",
    { ...base, "engines/images/src/a.ts": uses("@skep/base/hidden") },
    { "engines/images": ["@skep/base"] },
    /the exports of protocols\/base\/package.json do not show/,
  ],
  [
    "a room that package.json does not name",
    { ...base, "engines/images/src/a.ts": uses("@skep/base") },
    {},
    /uses @skep\/base, which engines\/images\/package.json does not name/,
  ],
  [
    "a development tool outside tests",
    { "engines/images/src/a.ts": uses("typescript") },
    {},
    /uses typescript, which engines\/images\/package.json does not name/,
  ],
  ["what is named and unused", base, { "protocols/base": ["yaml"] }, /names yaml, which nothing there uses/],
  [
    "a room that does not exist",
    { ...base, "test/a.ts": uses("@skep/nowhere") },
    {},
    /there is no such room/,
  ],
];

for (const [what, files, named, says] of refused) {
  test(`refused: ${what}`, async () => {
    const problems = await problemsOf(files, named);
    assert.equal(problems.length, 1, problems.join("\n"));
    assert.match(problems[0]!, says);
  });
}

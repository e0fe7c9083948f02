import { readdirSync, readFileSync } from "node:fs";
import { basename } from "node:path";
import type { Arch } from "@skep/api/schemas";
import { parseSize } from "@skep/base";
import { type Static, Type } from "typebox";
import { Value } from "typebox/value";
import { parseDocument } from "yaml";
import { fail } from "./errors.ts";
import { checkImageName } from "./names.ts";
import { assetPath } from "./paths.ts";

const strict = { additionalProperties: false } as const;
const AbsolutePath = Type.String({ pattern: "^/[^\\0\\n]*$", maxLength: 1024 });
const Package = Type.String({ pattern: "^[a-z0-9][a-z0-9+.:-]*$", maxLength: 200 });
const Word = Type.String({ pattern: "^[a-z0-9][a-z0-9.-]*$", maxLength: 64 });
const Module = Type.String({ pattern: "^[A-Za-z0-9_-]+$", maxLength: 64 });
const PerArch = Type.Object({ x86_64: Type.Optional(Package), aarch64: Type.Optional(Package) }, strict);

/** What a recipe file may say; `docs/recipe.yaml` explains each field with its default. */
const RecipeFile = Type.Object(
  {
    name: Type.String(),
    type: Type.Optional(Type.Union([Type.Literal("disk"), Type.Literal("initramfs")])),
    description: Type.Optional(Type.String({ maxLength: 1000 })),
    distribution: Type.Union([Type.Literal("debian"), Type.Literal("ubuntu")]),
    suite: Word,
    components: Type.Optional(Type.Array(Word, { minItems: 1, maxItems: 16 })),
    arch: Type.Optional(
      Type.Array(Type.Union([Type.Literal("x86_64"), Type.Literal("aarch64")]), { minItems: 1, maxItems: 2 }),
    ),
    kernel: PerArch,
    packages: Type.Optional(Type.Array(Package, { maxItems: 4096 })),
    exclude: Type.Optional(Type.Array(AbsolutePath, { maxItems: 1024 })),
    files: Type.Optional(
      Type.Array(
        Type.Object(
          {
            path: AbsolutePath,
            mode: Type.Optional(Type.String({ pattern: "^0?[0-7]{3,4}$" })),
            owner: Type.Optional(Type.String({ pattern: "^[a-z0-9_-]+(:[a-z0-9_-]+)?$" })),
            content: Type.String({ maxLength: 4_194_304 }),
          },
          strict,
        ),
        { maxItems: 1024 },
      ),
    ),
    commands: Type.Optional(Type.Array(Type.String({ maxLength: 65_536 }), { maxItems: 1024 })),
    loadModules: Type.Optional(Type.Array(Module, { maxItems: 256 })),
    modules: Type.Optional(Type.Array(Module, { maxItems: 1024 })),
    kernelArguments: Type.Optional(Type.String({ pattern: "^[\\x20-\\x7e]*$", maxLength: 1024 })),
    user: Type.Optional(Type.String({ pattern: "^[a-z_][a-z0-9_-]{0,31}$" })),
    helper: Type.Optional(Type.Boolean()),
    room: Type.Optional(Type.String({ maxLength: 32 })),
  },
  strict,
);

/** A recipe with its defaults filled in. */
export type Recipe = Required<Static<typeof RecipeFile>> & {
  /** Free bytes in the finished file system, above what the files take. */
  roomBytes: number;
  /** The recipe as it was written: a part of the build's identity. */
  text: string;
};

const largestRoom = 16 * 1024 ** 4;

/** Reads a recipe; RECIPE_INVALID says where and why. Aliases are bounded, so no YAML bomb goes off. */
export function parseRecipe(text: string): Recipe {
  if (text.length > 8_388_608) throw fail("RECIPE_INVALID", { why: "it is larger than 8 MiB" });
  const document = parseDocument(text);
  const problem = document.errors[0];
  if (problem !== undefined) throw fail("RECIPE_INVALID", { why: problem.message.split("\n")[0] });
  let value: unknown;
  try {
    value = document.toJS({ maxAliasCount: 100 });
  } catch (error) {
    throw fail("RECIPE_INVALID", { why: (error as Error).message }, { cause: error });
  }
  if (!Value.Check(RecipeFile, value)) {
    const first = Value.Errors(RecipeFile, value)[0];
    const where = first?.instancePath.replaceAll("/", ".").replace(/^\./, "") || "the document";
    throw fail("RECIPE_INVALID", { why: `${where}: ${first?.message ?? "is wrong"}` });
  }
  checkImageName(value.name);
  for (const { path } of value.files ?? []) checkInside(path);
  const room = value.room ?? "512M";
  const roomBytes = parseSize(room);
  if (roomBytes > largestRoom) throw fail("RECIPE_INVALID", { why: "room: is larger than 16 TiB" });
  const arch = value.arch ?? (Object.keys(value.kernel) as Arch[]);
  if (arch.length === 0) throw fail("RECIPE_INVALID", { why: "kernel: names a package for no architecture" });
  for (const one of arch) {
    if (value.kernel[one] === undefined) {
      throw fail("RECIPE_INVALID", { why: `kernel.${one}: is missing, though arch lists it` });
    }
  }
  return {
    type: "disk",
    description: "",
    components: ["main"],
    packages: [],
    exclude: [],
    files: [],
    commands: [],
    loadModules: [],
    modules: [],
    kernelArguments: "",
    user: "root",
    helper: true,
    ...value,
    arch,
    room,
    roomBytes,
    text,
  };
}

function checkInside(path: string): void {
  if (path.split("/").some((part) => part === ".." || part === ".")) {
    throw fail("RECIPE_INVALID", { why: `files: the path ${JSON.stringify(path)} has "." or ".." in it` });
  }
}

export function builtInRecipes(): string[] {
  return readdirSync(assetPath("recipes"))
    .filter((file) => file.endsWith(".yaml"))
    .map((file) => basename(file, ".yaml"))
    .sort();
}

export function builtInRecipe(name: string): Recipe {
  const known = builtInRecipes();
  if (!known.includes(name)) throw fail("RECIPE_UNKNOWN", { name, known: known.join(", ") });
  return parseRecipe(readFileSync(assetPath("recipes", `${name}.yaml`), "utf8"));
}

import { existsSync, readFileSync } from "node:fs";
import type { Arch } from "@skep/api/schemas";
import { type Static, Type } from "typebox";
import { Value } from "typebox/value";
import { parse } from "yaml";
import { fail } from "./errors.ts";
import { checkImageName } from "./names.ts";
import { assetPath, type ImagePaths } from "./paths.ts";

const strict = { additionalProperties: false } as const;
const CatalogFile = Type.Object(
  {
    version: Type.Literal(1),
    default: Type.Optional(Type.String()),
    images: Type.Array(
      Type.Object(
        {
          name: Type.String(),
          user: Type.String({ pattern: "^[a-z_][a-z0-9_-]{0,31}$" }),
          archNames: Type.Object(
            { x86_64: Type.Optional(Type.String()), aarch64: Type.Optional(Type.String()) },
            strict,
          ),
          url: Type.String({ pattern: "^https?://", maxLength: 2048 }),
          checksums: Type.Optional(Type.String({ maxLength: 2048 })),
          sha256: Type.Optional(Type.String({ pattern: "^[0-9a-f]{64}$" })),
          verification: Type.String({ maxLength: 200 }),
        },
        strict,
      ),
      { maxItems: 1000 },
    ),
  },
  strict,
);
type CatalogFile = Static<typeof CatalogFile>;

/** One image for one architecture, its URLs filled in. */
export interface CatalogImage {
  name: string;
  arch: Arch;
  user: string;
  url: string;
  /** Where its digests are listed. */
  checksums: string | undefined;
  sha256: string | undefined;
  verification: string;
}

export interface Catalog {
  images: CatalogImage[];
  /** The image of `new` where none is named. */
  defaultName: string;
  /** Names of which the user has entries. */
  ownNames: ReadonlySet<string>;
}

/** This room's catalog with the user's own entries over it. */
export function readCatalog(paths: ImagePaths): Catalog {
  const own = existsSync(paths.catalog) ? parseCatalog(paths.catalog) : undefined;
  const shipped = parseCatalog(assetPath("catalog.yaml"));
  const merged = new Map<string, CatalogImage>();
  for (const image of [...shipped.images.flatMap(expand), ...(own?.images.flatMap(expand) ?? [])]) {
    merged.set(`${image.name} ${image.arch}`, image);
  }
  return {
    images: [...merged.values()],
    defaultName: own?.default ?? shipped.default ?? "debian-12",
    ownNames: new Set(own?.images.map(({ name }) => name)),
  };
}

function parseCatalog(path: string): CatalogFile {
  let value: unknown;
  try {
    value = parse(readFileSync(path, "utf8"), { maxAliasCount: 100 });
  } catch (error) {
    throw fail("CATALOG_INVALID", { path, why: (error as Error).message.split("\n")[0] }, { cause: error });
  }
  if (!Value.Check(CatalogFile, value)) {
    const first = Value.Errors(CatalogFile, value)[0];
    throw fail("CATALOG_INVALID", {
      path,
      why: `${first?.instancePath || "the document"}: ${first?.message}`,
    });
  }
  for (const image of value.images) checkImageName(image.name);
  return value;
}

function expand(entry: CatalogFile["images"][number]): CatalogImage[] {
  return (["x86_64", "aarch64"] as const).flatMap((arch) => {
    const archName = entry.archNames[arch];
    if (archName === undefined) return [];
    const url = entry.url.replaceAll("{arch}", archName);
    const checksums = entry.checksums
      ?.replaceAll("{url}", url)
      .replaceAll("{base}", url.slice(0, url.lastIndexOf("/")))
      .replaceAll("{arch}", archName);
    const { name, user, sha256, verification } = entry;
    return [{ name, arch, user, url, checksums, sha256, verification }];
  });
}

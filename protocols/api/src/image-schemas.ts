/** Images: what they are made of, and what is told of them. */
import { type Static, Type } from "typebox";
import { Arch, strict } from "./parts.ts";

export const Image = Type.Object(
  {
    name: Type.String(),
    digest: Type.String({ description: "sha256:… of the image's manifest" }),
    arch: Arch,
    format: Type.Union([Type.Literal("raw"), Type.Literal("qcow2"), Type.Literal("none")]),
    /** What the guest sees as the disk's size; 0 where there is no disk (`tiny`). */
    virtualBytes: Type.Integer(),
    storedBytes: Type.Integer(),
    directBoot: Type.Boolean({ description: "a kernel is kept beside the disk" }),
    user: Type.String(),
    source: Type.String({ description: "where it came from, for people" }),
    createdAt: Type.String(),
    usedBy: Type.Array(Type.String()),
  },
  { $id: "Image" },
);
export type Image = Static<typeof Image>;

export const ImageDetails = Type.Object(
  { image: Image, manifest: Type.Unknown(), directory: Type.String() },
  { $id: "ImageDetails" },
);

export type ImageDetails = Static<typeof ImageDetails>;

export const ImagePull = Type.Object(
  {
    name: Type.String({ description: "a name of the catalog, or a URL" }),
    as: Type.Optional(Type.String()),
    arch: Type.Optional(Arch),
    sha256: Type.Optional(Type.String()),
    force: Type.Optional(Type.Boolean()),
  },
  { ...strict, $id: "ImagePull" },
);
export type ImagePull = Static<typeof ImagePull>;

export const ImageBuild = Type.Object(
  {
    recipe: Type.Optional(Type.String({ description: "YAML text of a recipe" })),
    name: Type.Optional(
      Type.String({ description: "a built-in recipe (debian-12, tiny), or the new image's name" }),
    ),
    arch: Type.Optional(Arch),
    source: Type.Optional(Type.String({ description: "apt source lines instead of this host's" })),
    force: Type.Optional(Type.Boolean()),
  },
  { ...strict, $id: "ImageBuild" },
);
export type ImageBuild = Static<typeof ImageBuild>;

export const ImageImport = Type.Object(
  {
    path: Type.String({ description: "a file on skepd's host" }),
    name: Type.Optional(Type.String()),
    arch: Type.Optional(Arch),
    user: Type.Optional(Type.String()),
    sha256: Type.Optional(Type.String()),
  },
  { ...strict, $id: "ImageImport" },
);
export type ImageImport = Static<typeof ImageImport>;

export const CatalogEntry = Type.Object(
  {
    name: Type.String(),
    arch: Arch,
    url: Type.String(),
    user: Type.String(),
    verification: Type.String(),
    present: Type.Boolean(),
  },
  { $id: "CatalogEntry" },
);
export type CatalogEntry = Static<typeof CatalogEntry>;

export const Pruned = Type.Object(
  { removed: Type.Array(Type.String()), freedBytes: Type.Integer() },
  { $id: "Pruned" },
);
export type Pruned = Static<typeof Pruned>;

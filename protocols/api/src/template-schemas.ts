/** Templates: machines that have booted once, for new ones to begin where they are. */
import { type Static, Type } from "typebox";
import { strict } from "./parts.ts";

const arch = Type.Union([Type.Literal("x86_64"), Type.Literal("aarch64")]);

export const TemplateBuild = Type.Object(
  {
    image: Type.Optional(Type.String({ description: "image name or digest; default: this host's default" })),
    arch: Type.Optional(arch),
    cpus: Type.Optional(Type.Integer({ minimum: 1, maximum: 256 })),
    memoryMiB: Type.Optional(Type.Integer({ minimum: 64, maximum: 16_777_216 })),
    diskBytes: Type.Optional(Type.Integer({ minimum: 1 })),
  },
  { ...strict, $id: "TemplateBuild", description: "what is not given is as of a new machine" },
);
export type TemplateBuild = Static<typeof TemplateBuild>;

export const Template = Type.Object(
  {
    id: Type.String({ description: "that of its stored state: st- and 17 hexadecimal digits" }),
    state: Type.Union([Type.Literal("ready"), Type.Literal("outdated"), Type.Literal("damaged")], {
      description: "outdated: no machine can begin from it any more",
    }),
    why: Type.Union([Type.String(), Type.Null()], { description: "where it is not ready" }),
    image: Type.String(),
    imageDigest: Type.String(),
    arch: Type.Union([arch, Type.Null()]),
    cpus: Type.Integer(),
    memoryMiB: Type.Integer(),
    diskBytes: Type.Integer({ description: "0: no disk" }),
    qemu: Type.String({ description: "the version that it was made with, and needs" }),
    createdAt: Type.String(),
    usedAt: Type.String(),
    populatedMiB: Type.Integer({ description: "memory that its guest had touched" }),
    storedBytes: Type.Integer({ description: "what its memory takes on disk" }),
    loaded: Type.Boolean({ description: "its memory is kept in /dev/shm; else it is read at its next use" }),
  },
  { $id: "Template" },
);
export type Template = Static<typeof Template>;

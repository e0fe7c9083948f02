/** What the schemas of all resources are made of. */
import { type Static, type TSchema, Type } from "typebox";

export const Nullable = <T extends TSchema>(schema: T) => Type.Union([schema, Type.Null()]);
export const strict = { additionalProperties: false } as const;

export const Arch = Type.Union([Type.Literal("x86_64"), Type.Literal("aarch64")]);
export type Arch = Static<typeof Arch>;

export const ErrorResponse = Type.Object(
  {
    error: Type.Object({
      code: Type.String(),
      message: Type.String(),
      hint: Type.Optional(Type.String()),
    }),
  },
  { $id: "ErrorResponse" },
);
export type ErrorResponse = Static<typeof ErrorResponse>;

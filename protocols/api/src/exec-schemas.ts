/** Text frames of the exec socket. */
import { type Static, Type } from "typebox";
import { strict } from "./parts.ts";

/** The client's first frame. An empty `command` is the login shell. */
export const ExecRequest = Type.Object(
  {
    command: Type.Array(Type.String({ maxLength: 1_048_576 }), { maxItems: 4096 }),
    tty: Type.Optional(
      Type.Object(
        {
          columns: Type.Integer({ minimum: 1, maximum: 10_000 }),
          rows: Type.Integer({ minimum: 1, maximum: 10_000 }),
          term: Type.String({ maxLength: 128 }),
        },
        strict,
      ),
    ),
    user: Type.Optional(Type.String({ minLength: 1, maxLength: 64 })),
    env: Type.Optional(Type.Record(Type.String(), Type.String({ maxLength: 131_072 }))),
    /** Ask for `{"stdinTaken": bytes}` frames, so that input never stops the socket. */
    stdinTaken: Type.Optional(Type.Boolean()),
  },
  { ...strict, $id: "ExecRequest" },
);
export type ExecRequest = Static<typeof ExecRequest>;

/** Any later text frame of the client. */
export const ExecControl = Type.Union(
  [
    Type.Object(
      {
        resize: Type.Object(
          {
            columns: Type.Integer({ minimum: 1, maximum: 10_000 }),
            rows: Type.Integer({ minimum: 1, maximum: 10_000 }),
          },
          strict,
        ),
      },
      strict,
    ),
    Type.Object({ signal: Type.String({ pattern: "^[A-Z0-9]{1,16}$" }) }, strict),
    Type.Object({ stdinEnd: Type.Literal(true) }, strict),
  ],
  { $id: "ExecControl" },
);
export type ExecControl = Static<typeof ExecControl>;

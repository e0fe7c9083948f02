import { formatToken } from "@skep/api/connection";
import { Token, TokenCreate, TokenCreated } from "@skep/api/schemas";
import { Type } from "typebox";
import { type App, answers, type Context } from "../context.ts";

export function tokenRoutes(app: App, { tokens, fingerprint }: Context): void {
  app.post(
    "/v1/tokens",
    {
      schema: {
        operationId: "createToken",
        tags: ["tokens"],
        body: TokenCreate,
        response: answers(201, TokenCreated),
      },
    },
    async (request, reply) => {
      const authority = await fingerprint();
      const { token, secret } = tokens.create(request.body.name, request.body.expiresInSeconds);
      reply.code(201).header("cache-control", "no-store");
      return { token, secret: formatToken({ id: token.id, secret, fingerprint: authority }) };
    },
  );
  app.get(
    "/v1/tokens",
    { schema: { operationId: "listTokens", tags: ["tokens"], response: answers(200, Type.Array(Token)) } },
    () => tokens.list(),
  );
  app.delete(
    "/v1/tokens/:id",
    {
      schema: {
        operationId: "removeToken",
        tags: ["tokens"],
        params: Type.Object({ id: Type.String() }),
        response: answers(204, Type.Null()),
      },
    },
    (request, reply) => {
      tokens.remove(request.params.id);
      reply.code(204);
      return null;
    },
  );
}

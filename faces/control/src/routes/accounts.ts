import type { Accounts, AccessKey as StoredKey } from "@skep/accounts";
import { AccessKey, AccessKeyCreate, AccessKeyCreated, Account, AccountCreate } from "@skep/api/schemas";
import { Type } from "typebox";
import { type App, answers, type Context } from "../context.ts";
import { fail } from "../errors.ts";

const tags = ["accounts"];

/** Keys name their accounts as people do. */
function viewsOf(accounts: Accounts, keys: readonly StoredKey[]): AccessKey[] {
  const names = new Map(accounts.accounts().map(({ id, name }) => [id, name]));
  return keys.map((key) => ({ ...key, account: names.get(key.account) ?? key.account }));
}

export function accountRoutes(app: App, { storage }: Context): void {
  app.get(
    "/v1/accounts",
    {
      schema: {
        operationId: "listAccounts",
        tags,
        description: "The first one is there from the beginning.",
        response: answers(200, Type.Array(Account)),
      },
    },
    () => storage.accounts().accounts(),
  );
  app.post(
    "/v1/accounts",
    {
      schema: {
        operationId: "createAccount",
        tags,
        body: AccountCreate,
        response: answers(201, Account),
      },
    },
    ({ body }, reply) => {
      reply.code(201);
      return storage.accounts().createAccount(body);
    },
  );
  app.delete(
    "/v1/accounts/:account",
    {
      schema: {
        operationId: "removeAccount",
        tags,
        description: "Refused while it has keys or buckets. By canonical id, number, name or email.",
        params: Type.Object({ account: Type.String() }),
        response: answers(204, Type.Null()),
      },
    },
    async ({ params }, reply) => {
      const { id, name } = storage.accounts().account(params.account);
      const owned = (await storage.buckets()).filter(({ owner }) => owner === id);
      if (owned.length > 0) {
        throw fail("ACCOUNT_HAS_BUCKETS", { name, count: owned.length, first: owned[0]?.name });
      }
      storage.accounts().removeAccount(id);
      reply.code(204);
      return null;
    },
  );
  app.get(
    "/v1/keys",
    { schema: { operationId: "listKeys", tags, response: answers(200, Type.Array(AccessKey)) } },
    () => viewsOf(storage.accounts(), storage.accounts().keys()),
  );
  app.post(
    "/v1/keys",
    {
      schema: {
        operationId: "createKey",
        tags,
        description: "An S3 access key. Good from the next request on.",
        body: AccessKeyCreate,
        response: answers(201, AccessKeyCreated),
      },
    },
    ({ body }, reply) => {
      const { key, secret } = storage.accounts().createKey(body);
      reply.code(201).header("cache-control", "no-store");
      return { key: viewsOf(storage.accounts(), [key])[0] as AccessKey, secret };
    },
  );
  app.delete(
    "/v1/keys/:id",
    {
      schema: {
        operationId: "removeKey",
        tags,
        description: "The next request that it signs is refused.",
        params: Type.Object({ id: Type.String() }),
        response: answers(204, Type.Null()),
      },
    },
    ({ params }, reply) => {
      storage.accounts().removeKey(params.id);
      reply.code(204);
      return null;
    },
  );
}

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import {
  errorsPath,
  errorTables,
  openApiDocument,
  operationsPath,
  renderClient,
  renderErrors,
  repository,
} from "./generate-client.ts";

test("the generated client is what the OpenAPI document says (else: npm run generate)", async () => {
  assert.equal(await readFile(operationsPath, "utf8"), renderClient(await openApiDocument()));
});

test("docs/errors.md lists exactly the codes of all error tables (else: npm run generate)", async () => {
  const page = await readFile(errorsPath, "utf8");
  const listed = [...page.matchAll(/^\| `([A-Z0-9_]+)` \|/gm)].map((match) => match[1]).sort();
  const codes = (await errorTables()).flatMap(({ table }) => Object.keys(table)).sort();
  assert.deepEqual(listed, codes);
  assert.equal(page, await renderErrors());
});

test("docs/api.md names every operation with its method and path", async () => {
  const page = await readFile(join(repository, "docs/api.md"), "utf8");
  for (const [path, methods] of Object.entries((await openApiDocument()).paths)) {
    for (const [method, { operationId }] of Object.entries(methods)) {
      assert.ok(page.includes(`| \`${operationId}\` | \`${method.toUpperCase()} ${path}\` |`), operationId);
    }
  }
});

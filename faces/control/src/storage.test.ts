import assert from "node:assert/strict";
import { test } from "node:test";
import { testControl } from "./test-control.ts";

test("accounts, keys and buckets are made, listed and removed; secrets are shown once", async () => {
  await using t = await testControl();
  const { client } = t;
  const account = await client.call("createAccount", { body: { name: "ann", email: "ann@b.cd" } });
  const { key, secret } = await client.call("createKey", {
    body: { account: "ann@b.cd", scopes: [{ bucket: "data", access: "read" }] },
  });
  assert.equal(key.account, "ann");
  const listed = await client.call("listKeys");
  assert.deepEqual(listed, [key]);
  assert.ok(!JSON.stringify(listed).includes(secret));
  const bucket = await client.call("createBucket", { body: { name: "data", account: account.number } });
  assert.equal(bucket.account, "ann");
  const remove = () => client.call("removeAccount", { path: { account: "ann" } });
  await assert.rejects(remove(), { code: "ACCOUNT_HAS_BUCKETS", status: 409 });
  await client.call("removeBucket", { path: { bucket: "data" } });
  await assert.rejects(remove(), { code: "ACCOUNT_IN_USE" });
  await client.call("removeKey", { path: { id: key.accessKeyId } });
  await remove();
  assert.deepEqual(
    (await client.call("listAccounts")).map(({ name }) => name),
    ["root"],
  );
});

test("a request is presigned as the bucket's owner, and its key and headers are kept as they are", async () => {
  await using t = await testControl();
  const { client } = t;
  await client.call("createAccount", { body: { name: "ann" } });
  await client.call("createBucket", { body: { name: "data", account: "ann" } });
  const body = { method: "PUT", bucket: "data", key: "a/../b +ü\n", query: { partNumber: "1" } } as const;
  const local = await client.call("presign", { body: { ...body, headers: { "X-Amz-Meta-A": "1" } } });
  assert.match(local.url, /^http:\/\/localhost\/data\/a\/\.\.\/b%20%2B%C3%BC%0A\?partNumber=1&X-Amz-/);
  assert.match(local.url, /SignedHeaders=host%3Bx-amz-meta-a/);
  assert.ok(local.socket);
  const remote = await client.call("presign", {
    body: { ...body, endpoint: "https://h:8443", expiresInSeconds: 60 },
  });
  assert.match(remote.url, /^https:\/\/h:8443\/data\/.*X-Amz-Expires=60/);
  assert.equal(remote.socket, null);
  const refuse = (change: object, code: string) =>
    assert.rejects(client.call("presign", { body: { ...body, ...change } }), { code });
  await refuse({ endpoint: "https://h/path" }, "ENDPOINT_INVALID");
  await refuse({ endpoint: "file:///x" }, "ENDPOINT_INVALID");
  await refuse({ bucket: "none" }, "BUCKET_NOT_FOUND");
  await refuse({ expiresInSeconds: 604_801 }, "REQUEST_INVALID");
  await refuse({ method: "TRACE" }, "REQUEST_INVALID");
});

test("bad names and fields are refused, and storaged's metrics stand with skepd's", async () => {
  await using t = await testControl();
  const { client } = t;
  for (const name of ["", "ab", "A", "a..b", "-ab", "a_b", "1.2.3.4", "x".repeat(64)]) {
    await assert.rejects(
      client.call("createBucket", { body: { name } }),
      { code: "BUCKET_NAME_INVALID" },
      name,
    );
  }
  const unknown = { name: "ann", admin: true };
  await assert.rejects(client.call("createAccount", { body: unknown }), { code: "REQUEST_INVALID" });
  await assert.rejects(client.call("removeKey", { path: { id: "none" } }), { code: "KEY_NOT_FOUND" });
  await assert.rejects(client.call("removeAccount", { path: { account: "root" } }), { code: "ACCOUNT_ROOT" });
  const up = await client.call("storageUp", { body: { listen: "127.0.0.1:1" } });
  assert.equal(up.endpoint, "https://127.0.0.1:1");
  assert.equal((await client.call("storageDown")).endpoint, null);
  const metrics = await client.stream("metrics");
  let text = "";
  for await (const piece of metrics) text += piece;
  assert.match(text, /skep_machines[\s\S]*^skep_test 1$/m);
});

import assert from "node:assert/strict";
import { readFile, stat } from "node:fs/promises";
import { createServer } from "node:https";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { test } from "node:test";
import { connect } from "node:tls";
import { ApiClient, formatToken, parseToken } from "@skep/api";
import { hostNames, serverIdentity } from "@skep/certificates";
import { openStore } from "./store.ts";
import { type TestControl, testControl } from "./test-control.ts";
import { Tokens } from "./tokens.ts";

async function listening(): Promise<TestControl & { url: string; token: string }> {
  const t = await testControl();
  const { listen } = await t.client.call("setListen", { body: { address: "127.0.0.1:0" } });
  const { secret } = await t.client.call("createToken", { body: { name: "test" } });
  return Object.assign(t, { url: `https://${listen}`, token: secret });
}

test("a token opens the API over verified TLS: calls, jobs, streams and sockets", async () => {
  await using t = await listening();
  assert.equal(`https://${t.savedListen()}`, t.url);
  await using remote = new ApiClient({ url: t.url, token: t.token });
  await remote.job("createMachine", { body: { name: "web" } });
  assert.equal((await remote.call("listMachines", {})).length, 1);
  const socket = await remote.socket("machineConsole", { path: { name: "web" } });
  socket.terminate();
  const [token] = await remote.call("listTokens");
  assert.ok(token?.lastUsedAt);
});

test("a server with another CA never sees the token", async () => {
  await using t = await listening();
  const directory = join(t.home, "impostor");
  const impostor = await serverIdentity({ directory, name: "server", names: hostNames() });
  let requests = 0;
  const server = createServer({ cert: impostor.certificate, key: impostor.key }, () => {
    requests += 1;
  });
  let bytes = 0;
  server.on("secureConnection", (socket) => socket.on("data", (data: Buffer) => (bytes += data.length)));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  try {
    await using remote = new ApiClient({
      url: `https://127.0.0.1:${(server.address() as AddressInfo).port}`,
      token: t.token,
    });
    await assert.rejects(remote.call("version"), { code: "TLS_FINGERPRINT" });
    // The right CA's certificate in the chain does not help whoever lacks its key.
    const ca = await readFile(join(t.home, "tls/ca.pem"), "utf8");
    const leaf = impostor.certificate.split(/(?<=-----END CERTIFICATE-----\n)/)[0];
    server.setSecureContext({ cert: `${leaf}\n${ca}`, key: impostor.key });
    await assert.rejects(remote.call("version"), (error: { code: string }) => /^TLS_/.test(error.code));
    assert.deepEqual([requests, bytes], [0, 0]);
  } finally {
    server.close();
    server.closeAllConnections();
  }
});

test("without a good token nothing answers, sockets included, and guessing is slowed down", async () => {
  await using t = await listening();
  const parts = parseToken(t.token);
  const wrong = formatToken({ ...parts, secret: "A".repeat(43) });
  await using remote = new ApiClient({ url: t.url, token: wrong });
  await assert.rejects(remote.call("version"), { code: "TOKEN_REFUSED", status: 401 });
  await assert.rejects(remote.socket("/v1/machines/web/console"), { code: "TOKEN_REFUSED" });
  await assert.rejects(remote.call("catalog"), { code: "TOKEN_REFUSED" });
  for (let count = 0; count < 20; count += 1) await remote.call("version").catch(() => {});
  await assert.rejects(remote.call("version"), { code: "TOO_MANY_FAILURES", status: 429 });
});

test("a removed token and an expired one are refused", async () => {
  await using t = await listening();
  await using remote = new ApiClient({ url: t.url, token: t.token });
  assert.equal((await remote.call("version")).apiVersion, 1);
  await t.client.call("removeToken", { path: { id: parseToken(t.token).id } });
  await assert.rejects(remote.call("version"), { code: "TOKEN_REFUSED" });
  await assert.rejects(t.client.call("removeToken", { path: { id: "none" } }), { code: "TOKEN_NOT_FOUND" });

  let now = Date.now();
  const database = openStore(join(t.home, "other.db"));
  const tokens = new Tokens(database, () => now);
  const { token, secret } = tokens.create("short", 60);
  const header = `Bearer skep1.${token.id}.${secret}`;
  tokens.check(header, "a");
  now += 60_000;
  assert.throws(() => tokens.check(header, "a"), { code: "TOKEN_REFUSED" });
  assert.throws(() => tokens.check(undefined, "a"), { code: "TOKEN_MISSING" });
  for (const bad of ["Basic x", "Bearer", `Bearer skep1.${token.id}.short`, `Bearer skep1.%00.${secret}`]) {
    assert.throws(() => tokens.check(bad, "b"), { code: "TOKEN_REFUSED" });
  }
  database.close();
});

test("secrets are on disk as hashes only, and keys belong to their user alone", async () => {
  await using t = await listening();
  const { secret } = parseToken(t.token);
  for (const file of ["skep.db", "skep.db-wal"]) {
    assert.ok(!(await readFile(join(t.home, file))).includes(secret));
  }
  assert.equal((await stat(join(t.home, "tls"))).mode & 0o777, 0o700);
  for (const file of ["ca-key.pem", "server-key.pem"]) {
    assert.equal((await stat(join(t.home, "tls", file))).mode & 0o777, 0o600);
  }
});

test("TLS below 1.2 is refused", async () => {
  await using t = await listening();
  const port = Number(new URL(t.url).port);
  const socket = connect({
    host: "127.0.0.1",
    port,
    rejectUnauthorized: false,
    maxVersion: "TLSv1.1",
    minVersion: "TLSv1",
    ciphers: "ALL@SECLEVEL=0",
  });
  await assert.rejects(
    new Promise((resolve, reject) => socket.once("secureConnect", resolve).once("error", reject)),
  );
});

test("listening moves, ends, and refuses what is no address or taken", async () => {
  await using t = await listening();
  await using remote = new ApiClient({ url: t.url, token: t.token });
  await assert.rejects(t.client.call("setListen", { body: { address: "192.0.2.1:0" } }), {
    code: "LISTEN_FAILED",
  });
  assert.equal((await remote.call("version")).apiVersion, 1);
  await t.client.call("setListen", { body: { address: null } });
  await using fresh = new ApiClient({ url: t.url, token: t.token });
  await assert.rejects(fresh.call("version"), { code: "CONNECTION_FAILED" });
});

test("connections that cannot be are refused with what to do", async () => {
  const refused = async (connection: ConstructorParameters<typeof ApiClient>[0], code: string) => {
    await using client = new ApiClient(connection);
    await assert.rejects(client.call("version"), { code });
  };
  await using t = await listening();
  await refused({ socket: join(t.home, "none") }, "CONNECTION_FAILED");
  await refused({ url: t.url.replace("https", "http"), token: t.token }, "ADDRESS_INVALID");
  await refused({ url: t.url, token: "nonsense" }, "TOKEN_INVALID");
});

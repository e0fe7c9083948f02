import assert from "node:assert/strict";
import { X509Certificate } from "node:crypto";
import { once } from "node:events";
import { mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { connect, createServer, type PeerCertificate } from "node:tls";
import { authorityCertificate, authorityPath, fingerprintOf, hostNames, serverIdentity } from "./identity.ts";
import { keepRenewed } from "./renewal.ts";

const day = 86_400_000;

async function temporary(): Promise<AsyncDisposable & { directory: string }> {
  const root = await mkdtemp(join(tmpdir(), "sk-"));
  return {
    directory: join(root, "tls"),
    [Symbol.asyncDispose]: () => rm(root, { recursive: true, maxRetries: 5 }),
  };
}

/** What a verifying client is shown under this name. */
async function shown(port: number, servername: string, ca: string): Promise<PeerCertificate> {
  const socket = connect({ host: "127.0.0.1", port, servername, ca });
  try {
    await once(socket, "secureConnect");
    return socket.getPeerCertificate();
  } finally {
    socket.destroy();
  }
}

test("the certificate is made anew for new names or after damage; the CA stays", async () => {
  await using t = await temporary();
  const identity = (dns: string[], ip: string[]) =>
    serverIdentity({ directory: t.directory, name: "server", names: { dns, ip } });
  const first = await identity(["localhost"], ["127.0.0.1"]);
  assert.equal((await identity(["localhost"], [])).certificate, first.certificate);
  const renamed = await identity(["localhost", "hive.example"], ["::1"]);
  assert.notEqual(renamed.certificate, first.certificate);
  await writeFile(join(t.directory, "server.pem"), "damaged");
  const repaired = await identity(["localhost"], []);
  assert.equal(repaired.fingerprint, first.fingerprint);
  assert.equal(fingerprintOf(await readFile(authorityPath(t.directory), "utf8")), first.fingerprint);
  // as after a crash between the two writes
  const other = await serverIdentity({ directory: t.directory, name: "other", names: hostNames() });
  await writeFile(join(t.directory, "server-key.pem"), other.key);
  const matched = await identity(["localhost"], []);
  assert.ok(new X509Certificate(matched.certificate).verify(new X509Certificate(first.authority).publicKey));
  assert.notEqual(matched.key, other.key);
  assert.equal((await stat(join(t.directory, "ca-key.pem"))).mode & 0o777, 0o600);
});

test("several that make a CA at once get the same", async () => {
  await using t = await temporary();
  const names = { dns: ["localhost"], ip: [] };
  const made = await Promise.all([
    ...["a", "b", "c"].map((name) => serverIdentity({ directory: t.directory, name, names })),
  ]);
  const ca = new X509Certificate(await authorityCertificate(t.directory));
  for (const { certificate, fingerprint } of made) {
    assert.equal(fingerprint, made[0]?.fingerprint);
    assert.ok(new X509Certificate(certificate).verify(ca.publicKey));
  }
});

test("a running server's clients see the renewed certificate, which a wildcard covers", async () => {
  await using t = await temporary();
  let now = Date.now() - 340 * day; // so that it ends in 25 days
  const names = { dns: ["localhost", "s3.example", "*.s3.example"], ip: ["127.0.0.1"] };
  const identity = () => serverIdentity({ directory: t.directory, name: "storage", names, now });
  const first = await identity();
  const server = createServer({ cert: first.certificate, key: first.key });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  const errors: unknown[] = [];
  const renewal = keepRenewed(server, identity, (error) => errors.push(error), 10);
  try {
    const before = await shown(port, "my-bucket.s3.example", first.authority);
    now = Date.now();
    let after = before;
    while (after.fingerprint256 === before.fingerprint256) {
      after = await shown(port, "localhost", first.authority);
    }
    assert.ok(Date.parse(after.valid_to) > Date.parse(before.valid_to) + 300 * day);
    await assert.rejects(shown(port, "a.b.s3.example", first.authority), {
      code: "ERR_TLS_CERT_ALTNAME_INVALID",
    });
    assert.deepEqual(errors, []);
  } finally {
    renewal[Symbol.dispose]();
    server.close();
  }
});

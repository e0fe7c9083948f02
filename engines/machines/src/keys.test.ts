import assert from "node:assert/strict";
import { mkdtemp, readdir, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, it } from "node:test";
import { checkPublicKey, ownKeyPair } from "./keys.ts";

describe("keys", () => {
  it("makes the installation's key pair once", async () => {
    const directory = await mkdtemp(join(tmpdir(), "skep-keys-"));
    try {
      const path = join(directory, "ssh/id_ed25519");
      const first = await ownKeyPair(path);
      assert.deepEqual(await ownKeyPair(path), first);
      assert.equal((await stat(path)).mode & 0o777, 0o600);
      assert.equal(checkPublicKey(first.publicKey), first.publicKey);
      assert.deepEqual((await readdir(join(directory, "ssh"))).sort(), ["id_ed25519", "id_ed25519.pub"]);
    } finally {
      await rm(directory, { recursive: true });
    }
  });

  for (const line of [
    "",
    "-----BEGIN OPENSSH PRIVATE KEY-----",
    'command="rm -rf /" ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA==',
    "ssh-ed25519 AAAAB3NzaC1yc2EAAAADAQABAAAB",
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA==\nssh-rsa AAAA",
    "ssh-ed25519 !!!!",
  ]) {
    it(`refuses ${JSON.stringify(line.slice(0, 50))}`, () => {
      assert.throws(() => checkPublicKey(line), { code: "KEY_INVALID" });
    });
  }
});

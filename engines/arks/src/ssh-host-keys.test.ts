import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { run } from "@skep/base";
import { hostKeyTypes, makeHostKey } from "./ssh-host-keys.ts";

let directory: string;
before(async () => {
  directory = await mkdtemp("/tmp/skep-hk-");
});
after(() => rm(directory, { recursive: true }));

describe("host keys made here", () => {
  for (const type of hostKeyTypes) {
    it(`(${type}) are what ssh-keygen reads, with the public key that goes with them`, async () => {
      // Numbers begin with a high or a zero byte now and then, which is written otherwise.
      for (let count = 0; count < (type === "rsa" ? 2 : 12); count += 1) {
        const { privateKey, publicKey } = await makeHostKey(type);
        const path = join(directory, `${type}-${count}`);
        await writeFile(path, privateKey, { mode: 0o600 });
        const { stdout } = await run("ssh-keygen", ["-y", "-P", "", "-f", path]);
        assert.equal(stdout.trim(), publicKey);
      }
    });

    it(`(${type}) sign what their public key verifies`, async () => {
      const { privateKey, publicKey } = await makeHostKey(type);
      const path = join(directory, `${type}-sign`);
      const message = join(directory, `${type}-message`);
      await writeFile(path, privateKey, { mode: 0o600 });
      await writeFile(message, "a message");
      await run("ssh-keygen", ["-q", "-Y", "sign", "-n", "test", "-f", path, message]);
      const signers = join(directory, `${type}-signers`);
      await writeFile(signers, `host ${publicKey}\n`);
      const verify = [
        "-q",
        "-Y",
        "verify",
        "-n",
        "test",
        "-I",
        "host",
        "-f",
        signers,
        "-s",
        `${message}.sig`,
      ];
      await run("sh", ["-c", 'ssh-keygen "$@" < "$0"', message, ...verify]);
    });

    it(`(${type}) are never the same twice`, async () => {
      const [one, other] = await Promise.all([makeHostKey(type), makeHostKey(type)]);
      assert.notEqual(one.publicKey, other.publicKey);
    });
  }
});

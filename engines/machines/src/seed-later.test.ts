import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { seedFiles } from "./seed.ts";
import { laterOf } from "./seed-later.ts";

const content = {
  instanceId: "i",
  hostname: "web",
  publicKeys: ["ssh-ed25519 AAAA a", "ssh-ed25519 BBBB b"],
};

function later(given: { userData?: string; networkConfig?: string; env?: Record<string, string> } = {}) {
  const files = Object.entries(seedFiles({ ...content, env: {}, ...given }));
  return laterOf(new Map(files.map(([name, text]) => [name, Buffer.from(text)])), 1000);
}

const why = (userData: string) => {
  const found = later({ userData });
  return "why" in found ? found.why : undefined;
};

describe("a seed", () => {
  it("without user-data has keys alone to be put in place", () => {
    assert.deepEqual(later(), { publicKeys: content.publicKeys, firstBoot: false, bytes: 1000 });
  });

  it("with a script, with what a system that is up can do, or with variables wants cloud-init to run", () => {
    for (const userData of [
      "#!/bin/sh\ntouch /ran\n",
      "#cloud-config\npackages: [jq]\nwrite_files:\n  - path: /a\n    content: b\nruncmd: [true]\n",
      "#cloud-config\nusers: [default, {name: alice}]\n",
      "#cloud-config\n",
    ]) {
      const found = later({ userData });
      assert.ok(!("why" in found), JSON.stringify(found));
      assert.equal(found.firstBoot, true, userData);
    }
    const found = later({ env: { A: "b" } });
    assert.ok(!("why" in found) && found.firstBoot);
  });

  it("that wants a boot is told from others, with the reason", () => {
    assert.match(why("#cloud-config\nbootcmd: [true]\n") ?? "", /has bootcmd, which wants a boot/);
    assert.match(why("#cloud-config\nusers: [{name: alice}]\n") ?? "", /users without the default one/);
    assert.match(why("#cloud-config\nssh_deletekeys: true\n") ?? "", /ssh_deletekeys/);
    assert.match(why("## template: jinja\n#cloud-config\nruncmd: [true]\n") ?? "", /neither a script nor/);
    assert.match(why("Content-Type: multipart/mixed\n") ?? "", /neither a script nor/);
    assert.match(why("#cloud-boothook\ntrue\n") ?? "", /neither a script nor/);
    assert.deepEqual(later({ networkConfig: "version: 2\n" }), { why: "it has a network-config" });
  });
});

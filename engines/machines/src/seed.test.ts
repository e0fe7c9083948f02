import assert from "node:assert/strict";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, it } from "node:test";
import { run } from "@skep/base";
import { checkSeed, seedFiles, writeSeed } from "./seed.ts";

const content = { instanceId: "i-1", hostname: "web", publicKeys: ["ssh-ed25519 AAAA skep"], env: {} };

describe("cloud-init seed", () => {
  it("passes the caller's user-data on unchanged", () => {
    const userData = "#!/bin/sh\necho hello\n";
    assert.equal(seedFiles({ ...content, userData })["user-data"], userData);
  });

  it("puts keys and hostname into meta-data, which user-data cannot displace", () => {
    const metaData = JSON.parse(seedFiles(content)["meta-data"] as string);
    assert.deepEqual(metaData, {
      "instance-id": "i-1",
      "local-hostname": "web",
      "public-keys": content.publicKeys,
    });
  });

  it("writes the environment in a form that no value can break out of", async () => {
    const value = "a'b\"; rm -rf / $(id)`id`";
    const vendor = seedFiles({ ...content, env: { KEY: value } })["vendor-data"] as string;
    const block = /echo '([A-Za-z0-9+/=]+)' \| base64 -d/.exec(vendor)?.[1] as string;
    assert.ok(Buffer.from(block, "base64").toString().includes(`\nKEY="${value}"\n`));
  });

  it("gives a copy of another machine's disk its own machine-id, and no other machine", () => {
    const vendorData = (machineId?: string) => seedFiles({ ...content, machineId })["vendor-data"] as string;
    assert.match(vendorData("0123abcd"), /echo 0123abcd > \/etc\/machine-id/);
    assert.doesNotMatch(vendorData(), /machine-id/);
  });

  it("is an ISO with the label and files that NoCloud looks for", async () => {
    const directory = await mkdtemp(join(tmpdir(), "skep-seed-"));
    try {
      const path = join(directory, "seed.iso");
      await writeSeed(path, { ...content, networkConfig: "version: 2\n" });
      const label = (await readFile(path)).subarray(32_808, 32_840).toString().trim();
      assert.equal(label, "cidata");
      const listed = await run("xorriso", ["-indev", path, "-find", "/", "-type", "f"]);
      for (const name of ["meta-data", "user-data", "vendor-data", "network-config"])
        assert.match(listed.stdout, new RegExp(`'/${name}'`));
    } finally {
      await rm(directory, { recursive: true });
    }
  });

  const bad: [string, Parameters<typeof checkSeed>[0], RegExp][] = [
    ["YAML that does not parse", { userData: "#cloud-config\nusers: [\n", env: {} }, /not YAML.*line/s],
    ["a list where a mapping belongs", { userData: "#cloud-config\n- a\n", env: {} }, /not a mapping/],
    ["text of no known kind", { userData: "hello", env: {} }, /does not know/],
    ["a network-config that does not parse", { networkConfig: "a: b: c", env: {} }, /network-config/],
    ["an alias bomb", { userData: bomb(), env: {} }, /alias/i],
    ["a variable's name with a space", { env: { "a b": "1" } }, /a b/],
    ["a value that would end at its #", { env: { A: "p#w" } }, /comment/],
    ["a value of two lines", { env: { A: "1\n2" } }, /more than one line/],
  ];
  for (const [what, seed, message] of bad) {
    it(`refuses ${what}`, () => {
      assert.throws(() => checkSeed(seed), { message });
    });
  }

  it("takes every kind of user-data that cloud-init knows", () => {
    for (const head of [
      "#cloud-config\na: 1",
      "#!/bin/sh",
      "#include\n",
      "#cloud-boothook\n",
      "## template: jinja\n#cloud-config",
      "MIME-Version: 1.0\n",
    ]) {
      checkSeed({ userData: head, env: {} });
    }
  });
});

function bomb(): string {
  const levels = Array.from({ length: 12 }, (_, level) =>
    level === 0
      ? "a0: &a0 [x,x,x,x,x,x,x,x,x]"
      : `a${level}: &a${level} [${Array(9)
          .fill(`*a${level - 1}`)
          .join(",")}]`,
  );
  return `#cloud-config\n${levels.join("\n")}\n`;
}

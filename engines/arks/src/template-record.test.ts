import assert from "node:assert/strict";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, describe, it } from "node:test";
import {
  forgetTemplate,
  layersOfTemplates,
  readTemplates,
  type TemplateRecord,
  writeTemplate,
} from "./template-record.ts";

const hex = (digit: string) => digit.repeat(64);
const template: TemplateRecord = {
  version: 1,
  id: `st-${"a".repeat(17)}`,
  createdAt: "2026-01-01T00:00:00.000Z",
  image: { name: "debian-12", digest: `sha256:${hex("1")}` },
  arch: "x86_64",
  cpus: 2,
  memoryMiB: 2048,
  diskBytes: 10 * 1024 ** 3,
  key: hex("2"),
  qemu: "7.2.22",
  digest: hex("3"),
  mac: "52:54:00:12:34:56",
  layer: { path: "layers/0123abcd-0123-4abc-8abc-0123456789ab.qcow2", format: "qcow2" },
  seedBytes: 4 * 1024 ** 2,
  keysFile: "/home/debian/.ssh/authorized_keys",
  publicKeys: ["ssh-ed25519 AAAA a"],
  agent: true,
  populatedMiB: 286,
  storedBytes: 70_000_000,
};

let home: string;
beforeEach(async () => {
  home = await mkdtemp("/tmp/skep-tr-");
});
afterEach(() => rm(home, { recursive: true }));

describe("a template's record", () => {
  it("is read as it was written, oldest first, and gone once it is forgotten", async () => {
    const later = { ...template, id: `st-${"b".repeat(17)}`, createdAt: "2026-02-01T00:00:00.000Z" };
    await writeTemplate(home, later);
    await writeTemplate(home, template);
    assert.deepEqual(await readTemplates(home), { templates: [template, later], damaged: [] });
    assert.deepEqual(await layersOfTemplates(home), [template.layer, later.layer]);
    await forgetTemplate(home, later.id);
    await forgetTemplate(home, later.id);
    assert.deepEqual((await readTemplates(home)).templates, [template]);
  });

  it("that is not as it should be is told as damaged, and no layer is swept then", async () => {
    const lies: [string, unknown][] = [
      ["cut off", '{"version": 1'],
      ["of another version", { ...template, version: 2 }],
      ["of another template", { ...template, id: `st-${"c".repeat(17)}` }],
      ["with a layer elsewhere", { ...template, layer: { path: "../../etc/passwd", format: "qcow2" } }],
      ["with a file of keys that is none", { ...template, keysFile: "/root/a b" }],
      ["with a field too many", { ...template, more: 1 }],
    ];
    await mkdir(join(home, "templates"));
    for (const [what, content] of lies) {
      const text = typeof content === "string" ? content : JSON.stringify(content);
      await writeFile(join(home, "templates", `${template.id}.json`), text);
      const { templates, damaged } = await readTemplates(home);
      assert.deepEqual([templates, damaged.map(({ id }) => id)], [[], [template.id]], what);
      await assert.rejects(layersOfTemplates(home), /templates cannot be read/, what);
    }
    await writeFile(join(home, "templates", "notes.json"), "");
    assert.equal((await readTemplates(home)).damaged.length, 1);
  });
});

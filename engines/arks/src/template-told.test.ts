import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { LiveMachine } from "@skep/machines";
import { readTold, retell } from "./template-told.ts";

const instance = "/run/cloud-init/.instance-id";
const data = "/run/cloud-init/instance-data.json";
const sensitive = "/run/cloud-init/instance-data-sensitive.json";
const { signal } = new AbortController();

/** A guest with these files, whose agent says of others that they are not there. */
function guestWith(files: Readonly<Record<string, string>>): LiveMachine {
  const paths: string[] = [];
  const agent = {
    async fileOpen(path: string) {
      if (files[path] === undefined) throw new Error("No such file or directory");
      return paths.push(path) - 1;
    },
    fileRead: async (handle: number) => ({ bytes: Buffer.from(files[paths[handle] ?? ""] ?? ""), eof: true }),
    async fileClose() {},
  };
  return { agent } as unknown as LiveMachine;
}

describe("what a template tells of itself", () => {
  it("is read as far as it is there, and one message holds it", async () => {
    const guest = guestWith({ [instance]: "one\n", [data]: "x".repeat(96 * 1024), [sensitive]: "{}" });
    assert.deepEqual(await readTold(guest, signal), [
      { path: instance, mode: 0o644, text: "one\n" },
      { path: sensitive, mode: 0o600, text: "{}" },
    ]);
    assert.deepEqual(await readTold(guestWith({}), signal), []);
    await assert.rejects(readTold(guestWith({}), AbortSignal.abort()), { name: "AbortError" });
  });

  it("is told of another machine", () => {
    const template = { id: "11111111-1111-4111-8111-111111111111", name: "template-0a1b2c3d" };
    const machine = { id: "22222222-2222-4222-8222-222222222222", name: "web" };
    const text = `{"id": "${template.id}", "name": "${template.name}", "key": "i-${template.id}"}`;
    const [step] = retell([{ path: data, mode: 0o644, text }], template, machine);
    assert.ok(step?.verb === "file" && step.path === data && step.mode === 0o644);
    const told = `{"id": "${machine.id}", "name": "web", "key": "i-${machine.id}"}`;
    assert.equal(Buffer.from(step.content).toString(), told);
  });
});

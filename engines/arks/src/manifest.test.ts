import assert from "node:assert/strict";
import { readFile, writeFile } from "node:fs/promises";
import { after, before, suite, test } from "node:test";
import { readManifest, writeManifest } from "./manifest.ts";
import { statePaths } from "./paths.ts";
import { copyState, type MadeState, makeState } from "./testing.ts";
import type { JsonValue, StateManifest } from "./types.ts";

suite("the manifest of a state", () => {
  let whole: MadeState;
  const made = new AsyncDisposableStack();
  after(() => made.disposeAsync());
  before(async () => {
    whole = await makeState({ after: (clean) => made.defer(clean) });
  });

  test("reads as it was written, with the digest that others name", async (t) => {
    const { directory, manifest } = await copyState(t, whole);
    const read = await readManifest(directory);
    assert.deepEqual(read.manifest, manifest);
    assert.equal(await writeManifest(directory, manifest), read.digest);
  });

  test("is the same text whatever the order of its fields", async (t) => {
    const { directory, manifest } = await copyState(t, whole);
    const { manifest: path } = statePaths(directory);
    const text = await readFile(path, "utf8");
    const turned = Object.fromEntries(Object.entries(manifest).reverse()) as unknown as StateManifest;
    await writeManifest(directory, turned);
    assert.equal(await readFile(path, "utf8"), text);
  });

  test("of another version is refused by that version", async (t) => {
    const { directory } = await copyState(t, whole);
    await writeFile(statePaths(directory).manifest, '{"version":2,"whatever":[]}');
    await assert.rejects(readManifest(directory), { code: "STATE_VERSION", message: /version 2/ });
  });

  test("that says the same in other bytes is refused", async (t) => {
    const { directory } = await copyState(t, whole);
    const { manifest: path } = statePaths(directory);
    const text = await readFile(path, "utf8");
    const others = [
      JSON.stringify(JSON.parse(text), null, 2),
      text.replace('"version":1', '"version":1,"version":1'),
      text.replace("21.5", "21.50"),
      `${text}\n`,
      text.replace('"web"', '"\\u0077eb"'),
    ];
    for (const other of others) {
      assert.notEqual(other, text);
      await writeFile(path, other);
      await assert.rejects(readManifest(directory), { code: "STATE_DAMAGED", message: /digest/ });
    }
  });

  test("with bytes that are no UTF-8 is refused", async (t) => {
    const { directory, manifest } = await copyState(t, whole);
    const { manifest: path } = statePaths(directory);
    manifest.machine.note = "\ufffd";
    await writeManifest(directory, manifest);
    const bytes = await readFile(path);
    const at = bytes.indexOf("\ufffd");
    await writeFile(
      path,
      Buffer.concat([bytes.subarray(0, at), Buffer.from([0xff]), bytes.subarray(at + 3)]),
    );
    await assert.rejects(readManifest(directory), { code: "STATE_DAMAGED", message: /digest/ });
  });

  test("that is no object, too large or too deep is refused", async (t) => {
    const { directory, manifest } = await copyState(t, whole);
    const { manifest: path } = statePaths(directory);
    const texts = ["", "null", "[]", "7", '"text"', "{", "{}", '{"version":"1"}', "\0".repeat(99)];
    for (const text of [...texts, " ".repeat(2_000_000), "[".repeat(500_000)]) {
      await writeFile(path, text);
      await assert.rejects(readManifest(directory), { code: "STATE_DAMAGED" });
    }
    let deep: JsonValue = 1;
    for (let level = 0; level < 10_000; level += 1) deep = [deep];
    manifest.machine.deep = deep;
    await assert.rejects(writeManifest(directory, manifest), {
      code: "STATE_UNWRITABLE",
      message: /too deep/,
    });
    manifest.machine.deep = "x".repeat(1_100_000);
    await assert.rejects(writeManifest(directory, manifest), { code: "STATE_UNWRITABLE", message: /larger/ });
  });

  test("is neither written nor read with a field missing, added, or of another type", async (t) => {
    const { directory, manifest } = await copyState(t, whole);
    const { manifest: path } = statePaths(directory);
    for (const change of changesOf(manifest)) {
      const other = structuredClone(manifest) as unknown as Record<string, JsonValue>;
      change.apply(other);
      const isWritten = writeManifest(directory, other as unknown as StateManifest);
      await assert.rejects(isWritten, { code: "STATE_UNWRITABLE" }, change.what);
      await writeFile(path, JSON.stringify(other));
      await assert.rejects(readManifest(directory), { code: /STATE_DAMAGED|STATE_VERSION/ }, change.what);
    }
  });

  test("of a snapshot of a copy with frozen services reads as it was written; nothing but true says that", async (t) => {
    const { directory, manifest } = await copyState(t, whole);
    manifest.kind = "snapshot";
    manifest.device.form = "xen";
    manifest.slicesFrozen = true;
    await writeManifest(directory, manifest);
    assert.deepEqual((await readManifest(directory)).manifest, manifest);
    for (const other of [false, null, 1, "true"]) {
      Object.assign(manifest, { slicesFrozen: other });
      await assert.rejects(writeManifest(directory, manifest), { code: "STATE_UNWRITABLE" });
    }
  });

  const contradictions: [string, (manifest: StateManifest) => void][] = [
    ["memory.index.bytes", ({ memory }) => memory.index.bytes++],
    ["memory.chunks", ({ memory }) => memory.chunks++],
    ["memory.populatedBytes", ({ memory }) => (memory.populatedBytes += 1_048_576)],
    ["memory.packBytes", ({ memory }) => (memory.packBytes = memory.populatedBytes + 1)],
    ["memory.bytes", ({ memory }) => (memory.bytes += 1)],
    ["host.cpuFeatures", ({ host }) => host.cpuFeatures.reverse()],
    ["host.cpuFeatures", ({ host }) => host.cpuFeatures.push("sse4.2")],
    ["host.devices.sha256", ({ host }) => host.devices.argv.push("-device another")],
  ];
  for (const [field, change] of contradictions) {
    test(`whose ${field} contradicts the others is refused`, async (t) => {
      const { directory, manifest } = await copyState(t, whole);
      change(manifest);
      const message = new RegExp(field.startsWith("memory") ? "memory\\." : field);
      await assert.rejects(writeManifest(directory, manifest), { code: "STATE_UNWRITABLE", message });
    });
  }
});

interface Change {
  what: string;
  apply(manifest: Record<string, JsonValue>): void;
}

/** Each field (but the machine's own) taken away, and each of another type; each object with one more. */
function changesOf(value: object, path: string[] = []): Change[] {
  const parent = (manifest: Record<string, JsonValue>) =>
    path.reduce((at, key) => at[key] as Record<string, JsonValue>, manifest);
  const at = path.join(".");
  const added = {
    what: `${at} with one more`,
    apply: (all: Record<string, JsonValue>) => void Object.assign(parent(all), { more: 1 }),
  };
  return [
    added,
    ...Object.entries(value).flatMap(([key, inner]) => [
      {
        what: `${at}.${key} missing`,
        apply: (all: Record<string, JsonValue>) => void delete parent(all)[key],
      },
      ...[{}, -1, 1.5, "\n", null].map((other) => ({
        what: `${at}.${key} = ${JSON.stringify(other)}`,
        apply: (all: Record<string, JsonValue>) => {
          // 1.5 ms are a pause like any other.
          parent(all)[key] = key === "pauseMs" && other === 1.5 ? "1.5" : other;
        },
      })),
      ...(typeof inner === "object" && !Array.isArray(inner) && key !== "machine"
        ? changesOf(inner as object, [...path, key])
        : []),
    ]),
  ];
}

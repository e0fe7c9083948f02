import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, describe, it } from "node:test";
import { defaultSettings } from "@skep/arks";
import { templateSettings } from "./templates.ts";

describe("what is set of templates", () => {
  let home: string;
  beforeEach(async () => {
    home = await mkdtemp("/tmp/skep-ts-");
  });
  afterEach(() => rm(home, { recursive: true }));

  const set = (templates: unknown) =>
    writeFile(join(home, "config.json"), JSON.stringify({ version: 1, listen: null, templates }));

  it("is the default, then config.json's, then the environment's", async () => {
    assert.deepEqual(await templateSettings(home, {}), defaultSettings);
    await set({ keepMiB: 0, build: false });
    const changed = { ...defaultSettings, keepMiB: 0, build: false };
    assert.deepEqual(await templateSettings(home, { SKEP_TEMPLATES: "" }), changed);
    assert.deepEqual(await templateSettings(home, { SKEP_TEMPLATES: "auto" }), { ...changed, build: true });
    const off = { ...changed, use: false };
    assert.deepEqual(await templateSettings(home, { SKEP_TEMPLATES: "off" }), off);
  });

  for (const [templates, what] of [
    [null, "templates"],
    [[], "templates"],
    ["off", "templates"],
    [{ keep: 1 }, "templates.keep"],
    [{ toString: {} }, "templates.toString"],
    [{ use: "no" }, "templates.use"],
    [{ most: -1 }, "templates.most"],
    [{ keepHours: null }, "templates.keepHours"],
  ] as const) {
    it(`is refused where config.json has ${JSON.stringify(templates)}`, async () => {
      await set(templates);
      const message = `${home}/config.json is not valid: ${what}`;
      await assert.rejects(templateSettings(home, {}), { code: "CONFIG_INVALID", message });
    });
  }

  for (const mode of ["of", "toString", "AUTO"]) {
    it(`is refused where SKEP_TEMPLATES is ${mode}`, async () => {
      await assert.rejects(templateSettings(home, { SKEP_TEMPLATES: mode }), { code: "TEMPLATES_MODE" });
    });
  }
});

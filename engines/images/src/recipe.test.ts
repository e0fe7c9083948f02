import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { builtInRecipe, builtInRecipes, parseRecipe } from "./recipe.ts";

const small = "name: mine\ndistribution: debian\nsuite: bookworm\nkernel: { x86_64: linux-image-amd64 }\n";

test("the built-in recipes are valid, and so is the one in the docs", () => {
  assert.deepEqual(builtInRecipes(), ["debian-12", "tiny"]);
  for (const name of builtInRecipes()) assert.equal(builtInRecipe(name).name, name);
  const documented = parseRecipe(
    readFileSync(fileURLToPath(new URL("../../../docs/recipe.yaml", import.meta.url)), "utf8"),
  );
  // Every field that a recipe can have is shown there.
  const given = Object.keys(documented).filter((key) => !["roomBytes", "text"].includes(key));
  for (const key of given)
    assert.match(documented.text, new RegExp(`^#? ?${key}:`, "m"), `docs/recipe.yaml lacks ${key}`);
});

test("what is not said has a default", () => {
  const recipe = parseRecipe(small);
  assert.equal(recipe.type, "disk");
  assert.deepEqual(recipe.arch, ["x86_64"]);
  assert.equal(recipe.roomBytes, 512 * 1024 ** 2);
  assert.equal(recipe.helper, true);
});

test("a recipe that is wrong says where", () => {
  const bad: [string, RegExp][] = [
    ["- a list", /the document/],
    [`${small}colour: red\n`, /colour|additional/i],
    [`${small}files: [{ path: relative, content: x }]\n`, /files\.0\.path/],
    [`${small}files: [{ path: /etc/../../x, content: x }]\n`, /"\.\."/],
    [`${small}packages: ["--evil"]\n`, /packages\.0/],
    [`${small}arch: [aarch64]\n`, /kernel\.aarch64/],
    [`${small}room: 0\n`, /room/],
    [small.replace("mine", "../mine"), /path|not allowed/],
    ["{", /recipe is not valid/],
    [
      `a: &a [1]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: [*c,*c,*c,*c,*c,*c,*c,*c]`,
      /not valid/,
    ],
  ];
  for (const [text, why] of bad) assert.throws(() => parseRecipe(text), why, text);
});

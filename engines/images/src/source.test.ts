import assert from "node:assert/strict";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { builtInRecipe } from "./recipe.ts";
import { buildSource, parseDeb822, parseOneLine } from "./source.ts";
import { temporaryHome } from "./testing.ts";

const recipe = builtInRecipe("debian-12");
const keyring = "/usr/share/keyrings/debian-archive-keyring.gpg";

test("of the host's sources only the distribution's own are taken", async () => {
  await using place = await temporaryHome();
  const parts = join(place.home, "sources.list.d");
  await mkdir(parts);
  await writeFile(
    join(place.home, "sources.list"),
    [
      "deb http://mirror.invalid/debian bookworm main contrib # comment",
      "deb [arch=amd64 signed-by=/etc/apt/keyrings/vendor.gpg] http://vendor.invalid bookworm main",
      "deb http://cloud.invalid/apt cloud-sdk-bookworm main",
      "deb http://containers.invalid/linux bookworm stable",
      "deb http://mirror.invalid/debian bookworm-backports main",
      "deb-src http://mirror.invalid/debian bookworm main",
    ].join("\n"),
  );
  await writeFile(
    join(parts, "debian.sources"),
    `Types: deb deb-src\nURIs: http://security.invalid/debian-security\nSuites: bookworm-security\nComponents: main\nSigned-By: ${keyring}\n\n` +
      "Types: deb\nURIs: http://node.invalid\nSuites: nodistro\nComponents: main\n\n" +
      "Enabled: no\nTypes: deb\nURIs: http://off.invalid\nSuites: bookworm\nComponents: main\n",
  );
  await writeFile(join(parts, "vendor.list.disabled"), "deb http://gone.invalid bookworm main\n");
  const { sources, text } = buildSource(recipe, undefined, place.home);
  assert.deepEqual(
    sources.map(({ uris, suites }) => [uris[0], suites.join(" ")]),
    [
      ["http://mirror.invalid/debian", "bookworm"],
      ["http://security.invalid/debian-security", "bookworm-security"],
    ],
  );
  assert.ok(
    sources.every(
      ({ components, options }) => components.join() === "main" && options["Signed-By"] === keyring,
    ),
  );
  assert.doesNotMatch(text, /vendor|cloud\.|containers|node\.|off\.|gone\./);
});

test("a host without the distribution's sources is told how to name one", async () => {
  await using place = await temporaryHome();
  assert.throws(() => buildSource(recipe, undefined, place.home), { code: "SOURCE_MISSING" });
  const ubuntu = { ...recipe, distribution: "ubuntu" as const, suite: "noble" };
  assert.throws(() => buildSource(ubuntu, "deb [signed-by=/nowhere.gpg] http://u.invalid noble main"), {
    code: "KEYRING_MISSING",
  });
});

test("a named source is read in each of its forms", () => {
  const short = buildSource(recipe, "bookworm http://m.invalid/debian main contrib").sources;
  const line = buildSource(recipe, "deb http://m.invalid/debian bookworm main contrib\n").sources;
  const stanza = "Types: deb\nURIs: http://m.invalid/debian\nSuites: bookworm\nComponents: main\n contrib\n";
  assert.deepEqual(short, line);
  assert.deepEqual(buildSource(recipe, stanza).sources, line);
  for (const bad of ["", "nonsense", "Types: deb\nURIs: http://m.invalid\n", "deb http://m.invalid"]) {
    assert.throws(() => buildSource(recipe, bad), { code: "SOURCE_INVALID" }, bad);
  }
});

test("options, disabled stanzas and comments of apt are understood", () => {
  assert.deepEqual(
    parseOneLine("deb [ arch=amd64 trusted=yes ] http://m.invalid/ ./ # flat\n#deb http://x y z")[0],
    {
      uris: ["http://m.invalid/"],
      suites: ["./"],
      components: [],
      options: { Trusted: "yes" },
    },
  );
  const key =
    "Types: deb\nURIs: http://m.invalid\nSuites: a b\nComponents: main\nSigned-By:\n -----BEGIN\n .\n key\n";
  assert.equal(parseDeb822(key)[0]?.options["Signed-By"], "\n -----BEGIN\n .\n key");
});

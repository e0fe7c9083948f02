import assert from "node:assert/strict";
import { appendFile, mkdir, readdir, readFile, utimes, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { archiveName, dropPackages, keepPackages, offerPackages } from "./packages.ts";
import { temporaryHome } from "./testing.ts";

const { signal } = new AbortController();
const installed = [
  { name: "vim", version: "2:9.0+1~deb12", arch: "amd64" },
  { name: "docs", version: "1", arch: "all" },
  { name: "arm", version: "1", arch: "arm64" },
];

async function fetched(directory: string) {
  await mkdir(directory);
  for (const one of [...installed, { name: "unused", version: "1", arch: "amd64" }]) {
    await writeFile(join(directory, archiveName(one)), one.name);
  }
  await mkdir(join(directory, "partial"));
}

test("what a build used is offered to the next of its architecture, under the name that apt looks for", async () => {
  await using place = await temporaryHome();
  const [kept, first, next] = ["kept", "first", "next"].map((name) => join(place.home, name));
  assert.ok(kept && first && next);
  await offerPackages(kept, "x86_64", next, signal);
  assert.deepEqual(await readdir(next), []);
  await fetched(first);
  await keepPackages(kept, first, installed, signal);
  await offerPackages(kept, "x86_64", next, signal);
  assert.deepEqual(await readdir(next), ["docs_1_all.deb", "vim_2%3a9.0+1~deb12_amd64.deb"]);
  assert.equal(await readFile(join(next, "docs_1_all.deb"), "utf8"), "docs");
});

test("a kept package that has changed is not offered, and goes", async () => {
  await using place = await temporaryHome();
  const [kept, first, next] = ["kept", "first", "next"].map((name) => join(place.home, name));
  assert.ok(kept && first && next);
  await fetched(first);
  await keepPackages(kept, first, installed, signal);
  const broken = (await readdir(kept)).find((name) => name.endsWith("docs_1_all.deb")) as string;
  await appendFile(join(kept, broken), "!");
  await offerPackages(kept, "x86_64", next, signal);
  assert.deepEqual(await readdir(next), ["vim_2%3a9.0+1~deb12_amd64.deb"]);
  assert.ok(!(await readdir(kept)).includes(broken));
});

test("packages that no build used for a month go with the next build, the rest when asked", async () => {
  await using place = await temporaryHome();
  const [kept, first, second] = ["kept", "first", "second"].map((name) => join(place.home, name));
  assert.ok(kept && first && second);
  await fetched(first);
  await keepPackages(kept, first, installed, signal);
  for (const name of await readdir(kept)) await utimes(join(kept, name), 1, 1);
  await fetched(second);
  await keepPackages(kept, second, installed.slice(0, 1), signal);
  assert.deepEqual(
    (await readdir(kept)).map((name) => name.slice(65)),
    ["vim_2%3a9.0+1~deb12_amd64.deb"],
  );
  assert.ok((await dropPackages(kept)) > 0);
  assert.deepEqual(await readdir(kept), []);
});

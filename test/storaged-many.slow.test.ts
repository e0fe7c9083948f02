/** A bucket with a million keys: what a page costs, and what the process needs. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { describe, it } from "node:test";
import { EmbeddedStore } from "@skep/objects";
import { StoragedProcess } from "./storaged-process.ts";
import { Installation } from "./support.ts";

const folders = 1000;
const perFolder = 1000;
const name = (folder: number, file: number) =>
  `f-${String(folder).padStart(4, "0")}/${String(file).padStart(4, "0")}`;

/** Through the store itself, many at a time: so many share each flush. */
async function fill(directory: string): Promise<void> {
  await using store = await EmbeddedStore.open({ directory });
  const { owner } = await store.bucket("many");
  let next = 0;
  const body = Buffer.from("a body");
  const write = async () => {
    while (next < folders * perFolder) {
      const number = next++;
      await store.put("many", name(Math.floor(number / perFolder), number % perFolder), body, { owner });
    }
  };
  await Promise.all(Array.from({ length: 512 }, write));
}

const pagesEach = 40;

describe("a bucket of 1,000,000 keys", () => {
  it("is listed with pages that cost the same wherever they are, in little memory", async (t) => {
    await using skep = await Installation.make([]);
    await using storaged = await StoragedProcess.start(skep);
    assert.equal((await storaged.send("PUT", "/many")).status, 200);
    await storaged.kill();
    const begun = performance.now();
    await fill(join(skep.home, "objects"));
    t.diagnostic(`filled in ${Math.round((performance.now() - begun) / 1000)} s`);
    await storaged.start();
    t.diagnostic(`resident at the start: ${(await storaged.residentMB()).toFixed(0)} MB`);

    /** A page as text. */
    const page = async (query: string, after: string) => {
      const { status, body } = await storaged.send(
        "GET",
        `/many?list-type=2&${query}&start-after=${encodeURIComponent(after)}`,
      );
      assert.equal(status, 200);
      return body.toString();
    };
    /** The CPU time of storaged for pages that begin there: not how long they took, but what they cost. */
    const cost = async (query: string, after: string, items: RegExp, count = 1000) => {
      await page(query, after);
      const before = await storaged.cpuTicks();
      for (let i = 0; i < pagesEach; i += 1) {
        assert.equal((await page(query, after)).match(items)?.length, count);
      }
      return (await storaged.cpuTicks()) - before;
    };
    const compare = (what: string, costs: number[]) => {
      const inMs = costs.map((ticks) => `${((ticks * 10) / pagesEach).toFixed(1)} ms`);
      t.diagnostic(`${what}: ${inMs.join(", ")} of CPU a page`);
      assert.ok(Math.max(...costs) < 4 * Math.min(...costs), `${what}: ${inMs.join(", ")}`);
    };
    const [middle, last] = [name(folders / 2, 0), name(folders - 2, perFolder - 1)];
    const [flat, keys] = ["max-keys=1000", /<Key>/g];
    await cost(flat, "", keys); // warms up
    compare("a page of 1,000 at the beginning, in the middle, at the end", [
      await cost(flat, "", keys),
      await cost(flat, middle, keys),
      await cost(flat, last, keys),
    ]);
    const [grouped, prefixes] = ["max-keys=200&delimiter=%2F", /<CommonPrefixes>/g];
    compare("200 of 1,000 folders at the beginning, in the middle, at the end", [
      await cost(grouped, "", prefixes, 200),
      await cost(grouped, middle, prefixes, 200),
      await cost(grouped, name(folders - 201, 0), prefixes, 200),
    ]);
    const inFolder = (folder: number) =>
      `max-keys=1000&delimiter=%2F&prefix=${name(folder, 0).slice(0, 6)}%2F`;
    compare("the first folder, the middle one, the last", [
      await cost(inFolder(0), "", keys),
      await cost(inFolder(folders / 2), "", keys),
      await cost(inFolder(folders - 1), "", keys),
    ]);

    let listed = 0;
    let before = "";
    for (let token: string | undefined = ""; token !== undefined; ) {
      const more: string = token === "" ? "" : `continuation-token=${encodeURIComponent(token)}`;
      const text: string = await page(more, "");
      for (const [, key = ""] of text.matchAll(/<Key>([^<]+)</g)) {
        assert.ok(key > before, `${key} comes after ${before}`);
        before = key;
        listed += 1;
      }
      token = /<NextContinuationToken>([^<]+)</.exec(text)?.[1];
    }
    assert.equal(listed, folders * perFolder);
    const resident = await storaged.residentMB();
    t.diagnostic(`resident at most, after all was listed: ${resident.toFixed(0)} MB`);
    assert.ok(resident < 300, `${resident} MB`);
  });
});

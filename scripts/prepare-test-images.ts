/**
 * Makes the images that tests boot, tiny and debian-12, once, in $SKEP_TEST_HOME; again when what makes
 * them (recipes and assets; the builder knows its own version) has changed.
 */
import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { glob } from "node:fs/promises";
import { join, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { Work } from "@skep/base";
import { lockFile } from "@skep/base/lock";
import { ImageStore } from "@skep/images";

const images = ["tiny", "debian-12"];
const house = resolve(import.meta.dirname, "..");
const makers = ["engines/images/assets/**", "guest/{*.[ch],build.sh,*.service,*.rules}"]; // the builder counts its own versions

async function fingerprint(): Promise<string> {
  const files: string[] = [];
  for await (const entry of glob(makers, { cwd: house, withFileTypes: true })) {
    if (entry.isFile()) files.push(join(entry.parentPath, entry.name));
  }
  const hash = createHash("sha256");
  for (const file of files.sort()) hash.update(`${file.slice(house.length)}\0`).update(readFileSync(file));
  return hash.digest("hex");
}

function fingerprintOf(stamp: string): string | undefined {
  try {
    return readFileSync(stamp, "utf8");
  } catch {
    return undefined; // never made
  }
}

const home = process.env.SKEP_TEST_HOME;
if (home === undefined) throw new Error("SKEP_TEST_HOME is not set: run this by scripts/test.sh");
const stamps = join(home, "made-from");
mkdirSync(stamps, { recursive: true });
const store = new ImageStore({ home });
const abort = new AbortController();
for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => abort.abort());
let phase = "";
const work: Work = {
  signal: abort.signal,
  report(progress) {
    if (progress.phase === phase) return;
    phase = progress.phase;
    console.error(`test images: ${phase}`);
  },
  note: (message) => console.error(`test images: ${message}`),
};
/** One at a time: who waited may find that another has made them. */
async function turn(): Promise<Disposable> {
  for (;;) {
    const lock = lockFile(join(stamps, "lock"));
    if (lock !== undefined) return lock;
    work.report({ phase: "waiting for another run, which makes them" });
    await sleep(500, undefined, { signal: abort.signal });
  }
}

const now = await fingerprint();
using _turn = await turn();
for (const name of images) {
  const stamp = join(stamps, name);
  const isCurrent = fingerprintOf(stamp) === now;
  if (isCurrent && store.find(name) !== undefined) continue;
  await store.build({ name, force: !isCurrent }, work);
  writeFileSync(stamp, now);
}

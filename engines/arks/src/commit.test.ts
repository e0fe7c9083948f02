import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { suite, test } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { checkState } from "./check.ts";
import { beginState, commitState, listStates, removeState } from "./commit.ts";
import { writeManifest } from "./manifest.ts";
import { newStateId, stateDirectory, statePaths, statesDirectory, temporaryStateDirectory } from "./paths.ts";
import { fillState, makeMemory, makeState, ownDirectory, smallMemory } from "./testing.ts";

suite("a state's directory", () => {
  test("counts only once it is committed", async (t) => {
    const home = await ownDirectory(t);
    assert.deepEqual(await listStates(home), { states: [], temporary: [] });
    const { id, directory } = await beginState(home);
    const ramPath = join(home, "ram");
    await makeMemory(ramPath, smallMemory.bytes, smallMemory.contents());
    await writeManifest(directory, await fillState(id, directory, ramPath));
    assert.deepEqual(await listStates(home), { states: [], temporary: [id] });
    assert.equal(await commitState(home, id), stateDirectory(home, id));
    assert.deepEqual(await listStates(home), { states: [id], temporary: [] });
    assert.deepEqual((await readdir(stateDirectory(home, id))).sort(), [
      "device.zst",
      "manifest.json",
      "memory.idx",
      "memory.pack",
    ]);
  });

  test("is not committed without a manifest of its own", async (t) => {
    const home = await ownDirectory(t);
    const { id, directory } = await beginState(home);
    await assert.rejects(commitState(home, id), { code: "STATE_DAMAGED" });
    const other = await makeState(t);
    await assert.rejects(writeManifest(directory, other.manifest), { code: "STATE_UNWRITABLE" });
    assert.deepEqual(await listStates(home), { states: [], temporary: [id] });
  });

  test("is never put in the place of another", async (t) => {
    const { home, manifest } = await makeState(t);
    const temporary = temporaryStateDirectory(home, manifest.id);
    await mkdir(temporary);
    await writeManifest(temporary, manifest);
    await assert.rejects(commitState(home, manifest.id), { code: "STATE_UNWRITABLE" });
    assert.deepEqual(await checkState(stateDirectory(home, manifest.id)), []);
  });

  test("is removed whole, also after a removal that was cut off, and twice", async (t) => {
    const { home, manifest } = await makeState(t);
    const temporary = temporaryStateDirectory(home, manifest.id);
    await mkdir(temporary);
    await writeFile(statePaths(temporary).pack, "left over");
    await removeState(home, manifest.id);
    await removeState(home, manifest.id);
    assert.deepEqual(await readdir(statesDirectory(home)), []);
  });

  test("is not named by what is no id", async (t) => {
    const home = await ownDirectory(t);
    for (const id of ["", "..", "st-", `${newStateId()}0`, "st-0123456789abcdef/", "../machines"]) {
      assert.throws(() => stateDirectory(home, id), { code: "STATE_ID" });
      await assert.rejects(removeState(home, id), { code: "STATE_ID" });
    }
  });

  test("is whole or not there, whenever its maker is killed", async (t) => {
    const home = await ownDirectory(t);
    const ramPath = join(home, "ram");
    await makeMemory(ramPath, smallMemory.bytes, smallMemory.contents());
    for (let turn = 0; turn < 8; turn += 1) {
      // At another step each time, and a little later each time.
      await killMaker(home, ramPath, turn % 4, (turn * 7) % 40);
    }
    const { states, temporary } = await listStates(home);
    assert.ok(states.length >= 2); // of those that had said so
    for (const id of states) assert.deepEqual(await checkState(stateDirectory(home, id)), []);
    const names = await readdir(statesDirectory(home));
    assert.equal(names.length, states.length + temporary.length);
    for (const id of temporary) await removeState(home, id);
    assert.deepEqual((await listStates(home)).temporary, []);
  });
});

/** Has states made one after another by a process that is killed some time after a step. */
async function killMaker(home: string, ramPath: string, step: number, delayMs: number): Promise<void> {
  const fixture = join(import.meta.dirname, "commit-fixture.ts");
  const maker = spawn(process.execPath, ["--conditions=skep-source", fixture, home, ramPath], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const ended = once(maker, "exit");
  const said: string[] = [];
  const reached = Promise.withResolvers<void>();
  maker.stdout.setEncoding("utf8").on("data", (text: string) => {
    said.push(...text.trim().split("\n"));
    if (said.length > step) reached.resolve();
  });
  try {
    // A maker that ends of itself does not leave the test waiting.
    await Promise.race([reached.promise, ended]);
    await pause(delayMs);
  } finally {
    maker.kill("SIGKILL");
    await ended;
  }
}

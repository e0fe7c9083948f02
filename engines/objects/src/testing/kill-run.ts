import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { digestOf } from "./digest.ts";
import { KeyModel } from "./model.ts";
import { TestStore } from "./store.ts";

/** Rounds of writing under load, `kill -9` and looking at what is left. */
export async function killRounds(rounds: number): Promise<{ acknowledged: number }> {
  await using test = await TestStore.make();
  const models = new Map<string, KeyModel>();
  let now = 0;
  let acknowledged = 0;
  for (let round = 0; round < rounds; round += 1) {
    await test.store.close();
    const attempts = new Map<string, ReturnType<KeyModel["begin"]>>();
    const wanted = 5 + Math.floor(Math.random() * 300);
    let done = 0;
    await runChild(test.directory, (line, kill) => {
      const [word, number = "", key = "", digest] = line.split(" ");
      if (word === "begin") {
        const model = models.get(key) ?? new KeyModel();
        models.set(key, model);
        attempts.set(number, model.begin(digest === "-" ? null : (digest as string), now++));
      } else {
        (attempts.get(number) as { acknowledged: number }).acknowledged = now++;
        done += 1;
        if (done === wanted) kill();
      }
    });
    assert.ok(done >= wanted, `the child ended by itself after ${done} changes`);
    acknowledged += done;
    await test.open();
    const listed = new Set((await test.store.list("bucket")).objects.map((object) => object.key));
    for (const [key, model] of models) {
      const digest = listed.delete(key) ? digestOf(await test.read(key)) : null;
      assert.ok(model.allows(digest, now), `"${key}" is ${digest}, not one of ${model}`);
      model.settle(digest, now++);
    }
    assert.deepEqual([...listed], []);
    await test.store.sweep();
    for await (const finding of test.store.check({ deep: true })) assert.fail(JSON.stringify(finding));
  }
  return { acknowledged };
}

async function runChild(directory: string, onLine: (line: string, kill: () => void) => void): Promise<void> {
  const program = fileURLToPath(new URL("./kill-child.ts", import.meta.url));
  const child = spawn(
    process.execPath,
    [...process.execArgv.filter((one) => !one.startsWith("--test")), program, directory],
    {
      stdio: ["ignore", "pipe", "inherit"],
    },
  );
  const ended = new Promise<void>((resolve, reject) => {
    child.once("error", reject);
    child.once("close", () => resolve());
  });
  try {
    // Lines that were written before the end count, also when they are read after it.
    for await (const line of createInterface({ input: child.stdout })) {
      onLine(line, () => void child.kill("SIGKILL"));
    }
  } finally {
    child.kill("SIGKILL");
    await ended;
  }
}

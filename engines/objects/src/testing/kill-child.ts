import { randomBytes } from "node:crypto";
import { EmbeddedStore } from "../embedded.ts";
import { digestOf } from "./digest.ts";
import { inPieces, owner } from "./store.ts";

/**
 * `kill-child.ts DIRECTORY`: changes objects until it is killed. A line before each change and one after
 * its acknowledgement: `begin N KEY DIGEST` (`-` for a deletion), `done N`.
 */
const store = await EmbeddedStore.open({
  directory: process.argv[2] as string,
  minimumPartBytes: 1,
  segmentBytes: 2_000_000,
  synchronous: "normal",
});
const keys = Array.from({ length: 30 }, (_, i) => `key/${i}`);
let changes = 0;

async function change(key: string, body: Buffer | undefined, work: () => Promise<unknown>): Promise<void> {
  const number = changes++;
  process.stdout.write(`begin ${number} ${key} ${body === undefined ? "-" : digestOf(body)}\n`);
  await work();
  process.stdout.write(`done ${number}\n`);
}

function below(bound: number): number {
  return Math.floor(Math.random() * bound);
}

async function changeOne(): Promise<void> {
  const key = keys[below(keys.length)] as string;
  const kind = below(10);
  if (kind === 0) return change(key, undefined, () => store.delete("bucket", key, { owner }));
  const body = randomBytes(below(4) === 0 ? below(600_000) : below(20_000));
  // An empty part can only be the last one.
  if (kind < 3 && body.length > 0) {
    return change(key, body, async () => {
      const { id } = await store.createUpload("bucket", key, { owner });
      const half = body.length >> 1;
      const parts = [
        await store.putPart("bucket", key, id, 1, body.subarray(0, half + 1)),
        await store.putPart("bucket", key, id, 2, inPieces(body.subarray(half + 1), 65_536)),
      ];
      await store.completeUpload("bucket", key, id, parts);
    });
  }
  return change(key, body, () =>
    store.put("bucket", key, kind < 6 ? inPieces(body, 65_536) : body, { owner }),
  );
}

await Promise.all(
  Array.from({ length: 16 }, async () => {
    for (;;) await changeOne();
  }),
);

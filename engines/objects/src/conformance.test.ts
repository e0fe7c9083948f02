import { mkdtemp, rm } from "node:fs/promises";
import { join } from "node:path";
import { objectStoreBehaviour } from "./conformance.ts";
import { EmbeddedStore } from "./embedded.ts";
import { MemoryStore } from "./memory.ts";

objectStoreBehaviour("MemoryStore", async () => {
  const store = new MemoryStore();
  return { store, [Symbol.asyncDispose]: () => store[Symbol.asyncDispose]() };
});

for (const prefix of ["", "below/a/prefix-"]) {
  objectStoreBehaviour(`EmbeddedStore, with the prefix "${prefix}"`, async () => {
    const directory = await mkdtemp("/tmp/skep-objects-");
    const whole = await EmbeddedStore.open({ directory: join(directory, "objects") });
    await whole.createBucket("bucket", { owner: "owner" });
    return {
      store: whole.objects("bucket", { prefix }),
      prefixBytes: prefix.length,
      [Symbol.asyncDispose]: async () => {
        await whole[Symbol.asyncDispose]();
        await rm(directory, { recursive: true });
      },
    };
  });
}

/** What volumes do in every store, in one elsewhere: over S3, from this house's own face. */
import { ForeignStore } from "@skep/objects/foreign";
import { startTestServer } from "@skep/s3/testing";
import { volumeBehaviour } from "@skep/volumes/testing";

volumeBehaviour("a ForeignStore, on the S3 face", async () => {
  const server = await startTestServer();
  const { account, accessKeyId, secret } = server.main;
  await server.store.createBucket("volumes", { owner: account.id });
  const credentials = { accessKeyId, secret };
  const store = new ForeignStore({ endpoint: server.url, bucket: "volumes", prefix: "below/", credentials });
  return {
    store,
    isForeign: true,
    [Symbol.asyncDispose]: async () => {
      await store[Symbol.asyncDispose]();
      await server[Symbol.asyncDispose]();
    },
  };
});

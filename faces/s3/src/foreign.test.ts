import { ForeignStore } from "@skep/objects/foreign";
import { objectStoreBehaviour } from "@skep/objects/testing";
import { startTestServer } from "./test-server.ts";

/** The client for any S3 endpoint, on the one of this house. */
objectStoreBehaviour("ForeignStore, on the S3 face", async () => {
  const server = await startTestServer();
  const { account, accessKeyId, secret } = server.main;
  await server.store.createBucket("conformance", { owner: account.id });
  const store = new ForeignStore({
    endpoint: server.url,
    bucket: "conformance",
    credentials: { accessKeyId, secret },
  });
  return {
    store,
    [Symbol.asyncDispose]: async () => {
      await store[Symbol.asyncDispose]();
      await server[Symbol.asyncDispose]();
    },
  };
});

import { describe, test } from "node:test";
import { ForeignStore } from "@skep/objects/foreign";
import { missingForRadosgw, startRadosgw } from "@skep/objects/radosgw";
import { volumeBehaviour } from "./testing/behaviour.ts";

const missing = await missingForRadosgw();

if (missing.length > 0) {
  describe("volumes in Ceph's radosgw", () => {
    test("need radosgw", { skip: `not installed: ${missing.join(", ")}` }, () => {});
  });
} else {
  volumeBehaviour("Ceph's radosgw", async () => {
    const radosgw = await startRadosgw();
    await radosgw.createBucket("volumes");
    const { endpoint, region, credentials } = radosgw;
    const store = new ForeignStore({ endpoint, region, credentials, bucket: "volumes", prefix: "below/" });
    return {
      store,
      isForeign: true,
      [Symbol.asyncDispose]: async () => {
        await store[Symbol.asyncDispose]();
        await radosgw[Symbol.asyncDispose]();
      },
    };
  });
}

import { describe, test } from "node:test";
import { objectStoreBehaviour } from "../conformance.ts";
import { missingForRadosgw, startRadosgw } from "../testing/radosgw.ts";
import { ForeignStore } from "./store.ts";

const missing = await missingForRadosgw();

if (missing.length > 0) {
  describe("ForeignStore, on Ceph's radosgw", () => {
    test("needs radosgw", { skip: `not installed: ${missing.join(", ")}` }, () => {});
  });
} else {
  objectStoreBehaviour("ForeignStore, on Ceph's radosgw", async () => {
    const radosgw = await startRadosgw();
    await radosgw.createBucket("conformance");
    const { endpoint, region, credentials } = radosgw;
    const prefix = "below/";
    const store = new ForeignStore({ endpoint, region, credentials, bucket: "conformance", prefix });
    return {
      store,
      // Version 16 ignores these conditions; that it is noticed is what is tried here.
      refuses: ["delete", "completion"],
      prefixBytes: prefix.length,
      [Symbol.asyncDispose]: async () => {
        await store[Symbol.asyncDispose]();
        await radosgw[Symbol.asyncDispose]();
      },
    };
  });
}

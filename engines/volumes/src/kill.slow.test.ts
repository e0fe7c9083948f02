import { describe, it } from "node:test";
import { missingForRadosgw, startRadosgw } from "@skep/objects/radosgw";
import { killRounds } from "./testing/kill-run.ts";

describe("kill -9 of the process that serves a volume, two hundred times", { timeout: 28 * 60_000 }, () => {
  for (const durability of ["local", "remote"] as const) {
    it(`loses nothing that was answered, with durability ${durability}`, async (t) => {
      t.diagnostic(JSON.stringify(await killRounds({ kills: 70, durability })));
    });
  }

  it("loses nothing of a volume that is compressed and encrypted", async (t) => {
    const settings = { compression: "zstd", encrypted: true } as const;
    t.diagnostic(JSON.stringify(await killRounds({ kills: 30, durability: "local", settings })));
  });

  it("loses nothing of a volume on Ceph's S3", async (t) => {
    const missing = await missingForRadosgw();
    if (missing.length > 0) return t.skip(`not installed: ${missing.join(", ")}`);
    await using radosgw = await startRadosgw();
    const { endpoint, credentials, region } = radosgw;
    for (const durability of ["local", "remote"] as const) {
      await radosgw.createBucket(durability);
      const foreign = { endpoint, credentials, region, bucket: durability };
      t.diagnostic(JSON.stringify(await killRounds({ kills: 15, durability, foreign })));
    }
  });
});

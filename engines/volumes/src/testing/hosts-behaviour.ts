import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { code, interposed, type Place, plain, read, text, write } from "./place.ts";

const sizeBytes = 2 ** 20;
const objBlockBytes = 64 * 1024;

/** What several hosts do to each other in one store, and what a host does without its store. */
export function hostsBehaviour(placeOf: () => Place): void {
  describe("a volume of several hosts", () => {
    it("is open once: in a process, on a host, among hosts", async () => {
      const place = placeOf();
      const volumes = place.start();
      const { id } = await volumes.create({ sizeBytes });
      await using volume = await volumes.open(id);
      await assert.rejects(volumes.open(id), code("VOLUME_OPEN"));
      await assert.rejects(place.start().open(id), code("VOLUME_OPEN"));
      await assert.rejects(volumes.remove(id), code("VOLUME_OPEN"));
      const elsewhere = place.start("elsewhere");
      await assert.rejects(elsewhere.open(id), (error) => {
        return code("VOLUME_IN_USE")(error) && String(error).includes('"here"');
      });
      await write(volume, 0, "a");
      const taken = await elsewhere.open(id, { takeOver: true });
      await write(volume, 0, "b");
      await assert.rejects(volume.drain(), code("VOLUME_FENCED"));
      assert.throws(() => volume.write(0, Buffer.alloc(4096), plain), code("VOLUME_FENCED"));
      assert.equal(volume.statistics().fenced, true);
      assert.ok((await read(taken, 0, 4096)).equals(Buffer.alloc(4096)));
      await taken.close();
    });

    it("is opened by one of those that ask at the same time", async () => {
      const { id } = await placeOf().start().create({ sizeBytes });
      const hosts = ["one", "two", "three", "four"].map((host) => placeOf().start(host));
      for (let round = 0; round < 5; round += 1) {
        const outcomes = await Promise.allSettled(hosts.map((volumes) => volumes.open(id)));
        const opened = outcomes.flatMap((one) => (one.status === "fulfilled" ? [one.value] : []));
        const refusals = outcomes.flatMap((one) => (one.status === "rejected" ? [one.reason] : []));
        assert.equal(opened.length, 1, refusals.map(String).join("; "));
        for (const refusal of refusals) assert.ok(code("VOLUME_IN_USE")(refusal), String(refusal));
        await opened[0]?.close();
      }
    });

    it("is read by the next as the last has left it, from the store and again", async () => {
      const { id } = await placeOf().start().create({ sizeBytes, objBlockBytes });
      const first = await placeOf().start().open(id);
      const expected = Buffer.alloc(sizeBytes);
      for (let round = 0; round < 3; round += 1) {
        for (let at = round * 4096; at < sizeBytes; at += 40_960) {
          const length = 20_000 - 5_000 * round;
          const data = Buffer.alloc(Math.min(length, sizeBytes - at), `${round} ${at},`);
          await first.write(at, data, plain);
          expected.set(data, at);
        }
        await first.drain();
      }
      await first.close();
      await using second = await placeOf().start("elsewhere").open(id);
      for (let at = 0; at < sizeBytes; at += 50_000) {
        const length = Math.min(777, sizeBytes - at);
        assert.ok((await read(second, at, length)).equals(expected.subarray(at, at + length)), `at ${at}`);
      }
      assert.ok((await read(second, 0, sizeBytes)).equals(expected));
      await second.collectGarbage();
      assert.ok((await read(second, 0, sizeBytes)).equals(expected));
    });

    it("lets no swap of an earlier owner happen, however late it lands", async () => {
      const held = Promise.withResolvers<void>();
      const arrived = Promise.withResolvers<void>();
      let isHolding = false;
      const store = interposed(placeOf().store, (verb, key) => {
        if (!isHolding || verb !== "put" || !key.endsWith("config.json")) return undefined;
        arrived.resolve();
        return held.promise;
      });
      const { id } = await placeOf().start().create({ sizeBytes });
      await using earlier = await placeOf().start("here", { store }).open(id);
      await write(earlier, 0, "o");
      isHolding = true;
      const refused = assert.rejects(earlier.drain(), code("VOLUME_FENCED"));
      await arrived.promise;
      const later = await placeOf().start("elsewhere").open(id, { takeOver: true });
      await write(later, 4096, "n");
      await later.drain();
      held.resolve();
      await refused;
      await later.close();
      await using again = await placeOf().start("elsewhere").open(id);
      assert.equal((await read(again, 0, 8192)).toString(), text(4096, "\0") + text(4096, "n"));
    });

    it("keeps its objects when an earlier owner's land late", async () => {
      const held = Promise.withResolvers<void>();
      const arrived = Promise.withResolvers<void>();
      let isHolding = false;
      const store = interposed(placeOf().store, (verb) => {
        if (!isHolding || verb !== "put") return undefined;
        arrived.resolve();
        return held.promise;
      });
      const { id } = await placeOf().start().create({ sizeBytes, objBlockBytes });
      await using earlier = await placeOf().start("here", { store }).open(id);
      await write(earlier, 0, "o", 40_960);
      isHolding = true;
      const refused = assert.rejects(earlier.drain(), code("VOLUME_FENCED"));
      await arrived.promise;
      const later = await placeOf().start("elsewhere").open(id, { takeOver: true });
      await write(later, 0, "n", 8192);
      await later.drain();
      held.resolve();
      await refused;
      await later.collectGarbage();
      await later.close();
      const volumes = placeOf().start("third");
      assert.deepEqual((await volumes.check(id)).findings, []);
      await using again = await volumes.open(id);
      assert.equal((await read(again, 0, 12_288)).toString(), text(8192, "n") + text(4096, "\0"));
    });
  });

  describe("a store that fails", () => {
    it("is waited for; the volume says so, and loses nothing", async () => {
      let isGone = false;
      const gone = () => Object.assign(new Error("connect ECONNREFUSED"), { code: "ECONNREFUSED" });
      const store = interposed(placeOf().store, () => (isGone ? Promise.reject(gone()) : undefined));
      const clock = { now: () => Date.now(), sleep: () => sleep(1) };
      const volumes = placeOf().start("here", { store, clock });
      const { id } = await volumes.create({ sizeBytes });
      const volume = await volumes.open(id);
      isGone = true;
      await write(volume, 0, "a", 65536);
      const draining = volume.drain();
      while (volume.statistics().problem === null) await clock.sleep();
      assert.match(volume.statistics().problem?.message ?? "", /ECONNREFUSED/);
      assert.equal((await read(volume, 0, 4096)).toString(), text(4096, "a"));
      isGone = false;
      await draining;
      assert.equal(volume.statistics().problem, null);
      await volume.close();
    });

    it("may fail every third request", async () => {
      let requests = 0;
      const broken = () => Object.assign(new Error("socket hang up"), { code: "ECONNRESET" });
      const store = interposed(placeOf().store, () => {
        requests += 1;
        return requests % 3 === 0 ? Promise.reject(broken()) : undefined;
      });
      const clock = { now: () => Date.now(), sleep: () => sleep(1) };
      const { id } = await placeOf().start().create({ sizeBytes, objBlockBytes });
      const volume = await placeOf().start("here", { store, clock }).open(id);
      const expected = Buffer.alloc(sizeBytes);
      for (let round = 0; round < 6; round += 1) {
        const fill = String.fromCharCode(97 + round);
        await write(volume, round * 12_288, fill, 65_536);
        expected.fill(fill, round * 12_288, round * 12_288 + 65_536);
        await volume.drain();
      }
      await volume.close();
      const volumes = placeOf().start("elsewhere");
      await using again = await volumes.open(id);
      assert.ok((await read(again, 0, sizeBytes)).equals(expected));
    });
  });
}

import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { LogicalTime, VolumeModel } from "./model.ts";

function model() {
  const time = new LogicalTime();
  return { time, model: new VolumeModel(time, 8192) };
}

const bytes = (letter: string, length = 512) => Buffer.alloc(length, letter);

describe("the model of a volume's bytes", () => {
  it("has zeroes first, and then what was answered, and nothing older", () => {
    const { time, model: volume } = model();
    assert.equal(volume.refute(Buffer.alloc(512), 0, time.next()), undefined);
    volume.end(volume.begin(0, 512, bytes("a")), "process");
    assert.equal(volume.refute(bytes("a"), 0, time.next()), undefined);
    assert.match(volume.refute(Buffer.alloc(512), 0, time.next()) ?? "", /are zeroes/);
    assert.match(volume.refute(bytes("b"), 0, time.next()) ?? "", /are 6262/);
  });

  it("may have either of what is under way or was refused, sector by sector", () => {
    const { time, model: volume } = model();
    const change = volume.begin(0, 1024, bytes("a", 1024));
    const torn = Buffer.concat([bytes("a"), Buffer.alloc(512)]);
    assert.equal(volume.refute(torn, 0, time.next()), undefined);
    volume.end(change, "nothing");
    assert.equal(volume.refute(torn, 0, time.next()), undefined);
    volume.end(volume.begin(0, 1024, bytes("b", 1024)), "process");
    assert.notEqual(volume.refute(torn, 0, time.next()), undefined);
  });

  it("knows parts of sectors", () => {
    const { time, model: volume } = model();
    volume.end(volume.begin(100, 10, bytes("a", 10)), "process");
    const seen = Buffer.alloc(512);
    assert.notEqual(volume.refute(seen, 0, time.next()), undefined);
    seen.fill("a", 100, 110);
    assert.equal(volume.refute(seen, 0, time.next()), undefined);
    seen[110] = 1;
    assert.notEqual(volume.refute(seen, 0, time.next()), undefined);
  });

  it("after a power loss has what was flushed, and of the rest the old or the new", () => {
    const { time, model: volume } = model();
    volume.end(volume.begin(0, 512, bytes("a")), "process");
    volume.secure(time.next(), "power");
    volume.end(volume.begin(0, 512, bytes("b")), "process");
    const now = time.next();
    assert.equal(volume.refute(bytes("a"), 0, now, "power"), undefined);
    assert.equal(volume.refute(bytes("b"), 0, now, "power"), undefined);
    assert.notEqual(volume.refute(Buffer.alloc(512), 0, now, "power"), undefined);
    assert.notEqual(volume.refute(bytes("a"), 0, now, "process"), undefined);
    assert.equal(volume.refute(Buffer.alloc(512), 0, now, "disk"), undefined);
  });

  it("tells at which instants a volume was as it is seen", () => {
    const { model: volume } = model();
    volume.end(volume.begin(0, 512, bytes("a")), "process");
    const second = volume.begin(4096, 512, bytes("b"));
    volume.end(second, "process");
    const seen = Buffer.alloc(8192);
    seen.fill("a", 0, 512);
    assert.deepEqual(volume.instants(seen), [{ from: 2, to: second.ended }]);
    seen.fill("b", 4096, 4608);
    assert.deepEqual(volume.instants(seen), [{ from: second.begun + 1, to: Number.POSITIVE_INFINITY }]);
    seen.fill(0, 0, 512);
    assert.equal(typeof volume.instants(seen), "string", "the second without the first never was");
  });

  it("stays as it was found", () => {
    const { time, model: volume } = model();
    volume.begin(0, 512, bytes("a"));
    volume.settle(Buffer.alloc(8192), "power");
    assert.notEqual(volume.refute(bytes("a"), 0, time.next(), "power"), undefined);
    assert.equal(volume.refute(Buffer.alloc(8192), 0, time.next(), "power"), undefined);
  });
});

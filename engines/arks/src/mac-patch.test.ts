import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { patchMac } from "./mac-patch.ts";

const [old, fresh] = ["52:54:00:11:22:33", "52:54:00:c0:ff:ee"];
const oldBytes = Buffer.from("525400112233", "hex");
const freshBytes = Buffer.from("525400c0ffee", "hex");
const noise = Buffer.from("device state, and more of it");

/** A state that holds a MAC `count` times between other bytes. */
function stateWith(mac: Buffer, count: number): Buffer {
  return Buffer.concat([noise, ...Array.from({ length: count }, () => [mac, noise]).flat()]);
}

describe("the MAC in a device state", () => {
  for (const count of [2, 3, 8]) {
    it(`is replaced where it stands ${count} times, and nothing else is`, () => {
      const state = stateWith(oldBytes, count);
      assert.deepEqual(patchMac(state, old, fresh), stateWith(freshBytes, count));
      assert.deepEqual(state, stateWith(oldBytes, count), "the state itself was changed");
    });
  }

  for (const count of [0, 1, 9, 5000]) {
    it(`is left alone where it stands ${count} times`, () => {
      assert.equal(patchMac(stateWith(oldBytes, count), old, fresh), undefined);
    });
  }

  it("is found beside itself, and at both ends", () => {
    const twice = Buffer.concat([oldBytes, oldBytes]);
    assert.deepEqual(patchMac(twice, old, fresh), Buffer.concat([freshBytes, freshBytes]));
  });
});

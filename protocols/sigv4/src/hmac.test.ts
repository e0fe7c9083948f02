import { equal } from "node:assert/strict";
import { createHmac } from "node:crypto";
import { test } from "node:test";
import { HmacKey } from "./hmac.ts";

test("an HMAC is that of RFC 4231, and node:crypto's for keys and texts of any length", () => {
  equal(
    new HmacKey("Jefe").sign("what do ya want for nothing?", "hex"),
    "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
  );
  for (const keyLength of [0, 1, 32, 63, 64, 65, 200]) {
    const key = new HmacKey("k".repeat(keyLength));
    for (const text of ["", "a", "ü".repeat(100)]) {
      equal(key.sign(text, "hex"), createHmac("sha256", "k".repeat(keyLength)).update(text).digest("hex"));
      equal(key.sign(text, "buffer").toString("hex"), key.sign(text, "hex"));
    }
  }
});

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, it } from "node:test";
import { eventually, Installation } from "./support.ts";
import { killMachine, killUnderLoad } from "./volume-kill.ts";

const slots = 512;
/** Numbers, each written with an fsync to the next slot of the disk, and told in the guest's memory after that. */
const writeNumbers = (disk: string) => `
  n=0
  while true; do
    n=$((n + 1))
    printf '%-4096d' $n | dd of=${disk} bs=4096 seek=$((n % ${slots})) conv=notrunc,fsync 2>/dev/null || exit
    echo $n > /tmp/told.new && mv /tmp/told.new /tmp/told
  done`;

describe("a guest's disk on a volume, while storaged and skepd are killed", () => {
  it("has all that the guest was told is written", async (t) => {
    await using skep = await Installation.make();
    await skep.skep(["new", "web", "--image", "tiny", "--memory", "128M", "--start", "--wait"]);
    const { stdout } = await skep.skep(["vol", "add", "--size", "64M", "--json"]);
    const { id } = JSON.parse(stdout) as { id: string };
    await skep.skep(["vol", "attach", id, "web"]);
    const sh = async (script: string) =>
      (await skep.skep(["exec", "web", "--", "sh", "-c", script])).stdout.trim();
    let disk = "";
    await eventually(
      async () => {
        const serial = id.replace("-", "");
        disk = await sh(
          `for d in /sys/block/vd*; do [ "$(cat $d/serial)" = ${serial} ] && echo /dev/\${d##*/}; done; true`,
        );
        return disk !== "";
      },
      () => "the guest never sees its disk",
    );
    await sh(`( ${writeNumbers(disk)} ) </dev/null >/dev/null 2>&1 &`);
    const told = async () => Number(await sh("cat /tmp/told 2>/dev/null || echo 0"));
    await killUnderLoad(skep, 3, told);
    const last = await told();
    await killMachine(skep, "web");
    await skep.skep(["vol", "detach", id]);
    const raw = join(skep.home, "exported.raw");
    await skep.skep(["vol", "export", id, raw, "--format", "raw"]);
    const bytes = await readFile(raw);
    for (let number = Math.max(1, last - slots + 1); number <= last; number += 1) {
      const at = (number % slots) * 4096;
      const found = Number(bytes.toString("latin1", at, at + 4096));
      assert.ok(found === number || found === number + slots, `number ${number}: ${found}`);
    }
    t.diagnostic(`${last} numbers were told`);
  });
});

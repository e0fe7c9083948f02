import assert from "node:assert/strict";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { text } from "node:stream/consumers";
import { after, before, describe, it } from "node:test";
import { quietWork } from "@skep/base";
import { useBench, verbsOf } from "./machine-volumes.ts";

const mib = 1024 ** 2;
const work = quietWork();

const bench = useBench();

const { machine, servedIds } = verbsOf(bench);

describe("when the storage server is killed", () => {
  let id = "";
  before(async () => {
    ({ id } = await bench().volumes.create({ sizeBytes: 64 * mib }));
    await bench().tiny("kill", { volumes: [{ volume: id }] });
  });
  after(() => bench().machines.remove("kill", { force: true }, work));

  it("a guest that writes sees nothing of it", async () => {
    const disk = await bench().disk("kill", id);
    const writer = await bench().machines.exec("kill", {
      command: [
        "sh",
        "-c",
        `i=0; while [ $i -lt 300 ]; do
          printf %04096d $i | dd of=${disk} bs=4096 seek=$i count=1 conv=fsync,notrunc 2>/dev/null || exit 1
          i=$((i + 1)); echo $i; done`,
      ],
    });
    writer.stdin.end();
    await once(writer.stdout, "data");
    for (let kills = 0; kills < 3; kills += 1) {
      await bench().volumes.killServer();
      await bench().volumes.ready();
    }
    const output = text(writer.stdout);
    assert.equal(await writer.exit, 0);
    assert.match(await output, /300\n$/);
    assert.equal(await bench().sh("kill", "dmesg | grep -i 'i/o error'; true"), "");
    const written = await readFile(bench().volumes.path(id), "latin1");
    for (let block = 0; block < 300; block += 1) {
      assert.equal(Number(written.slice(block * 4096, (block + 1) * 4096)), block);
    }
  });

  it("a stop has it brought back, and the guest shuts down in order", async () => {
    await bench().volumes.killServer();
    await bench().sh("kill", `dd if=/dev/zero of=${await bench().disk("kill", id)} bs=4096 count=1 &`);
    await bench().machines.stop("kill", {}, work);
    assert.ok(bench().volumes.serverRuns);
    assert.deepEqual([machine("kill").state, machine("kill").reason, servedIds()], ["stopped", null, []]);
  });

  it("a machine is removed with it, too", async () => {
    await bench().machines.start("kill", { wait: true }, work);
    await bench().volumes.killServer();
    await bench().machines.remove("kill", { force: true }, work);
    assert.deepEqual(await bench().skep.qemuPids(), []);
    assert.equal(bench().machines.machineOf(id), undefined);
    await bench().tiny("kill", { start: false });
  });
});

import assert from "node:assert/strict";
import { once } from "node:events";
import { createConnection } from "node:net";
import { after, before, describe, it } from "node:test";
import { quietWork } from "@skep/base";
import { useBench, verbsOf } from "./machine-volumes.ts";
import { eventually } from "./support.ts";

const mib = 1024 ** 2;
const work = quietWork();

const bench = useBench();

const { machine, attach, detach, servedIds } = verbsOf(bench);

/** A line for the human monitor, as a person would type it. */
async function monitor(name: string, line: string): Promise<void> {
  const socket = createConnection(machine(name).sockets.control);
  socket.end(`${line}\n`);
  socket.resume();
  await once(socket, "close");
}

describe("a guest that does not give a volume up", () => {
  let id = "";
  before(async () => {
    ({ id } = await bench().volumes.create({ sizeBytes: 64 * mib }));
    await bench().tiny("held", {});
  });
  after(() => bench().machines.remove("held", { force: true }, work));

  it("keeps it, and the person is told; it goes as soon as the guest lets it", async () => {
    await attach("held", id);
    await bench().disk("held", id);
    await monitor("held", "stop");
    await assert.rejects(detach("held", id), { code: "VOLUME_HELD" });
    assert.equal(machine("held").volumes[0]?.detaching, true);
    await monitor("held", "cont");
    await eventually(
      () => machine("held").volumes.length === 0,
      () => "the volume never went",
    );
    assert.deepEqual(servedIds(), []);
  });

  it("loses it by force, and has another one later", async () => {
    await attach("held", id);
    const disk = await bench().disk("held", id);
    await monitor("held", "stop");
    await detach("held", id, true);
    assert.deepEqual([machine("held").volumes, servedIds()], [[], []]);
    await assert.rejects(attach("held", id), { code: "VOLUME_LINGERS" });
    await monitor("held", "cont");
    await eventually(
      () =>
        bench()
          .sh("held", "true")
          .then(
            () => true,
            () => false,
          ),
      () => "the agent never answered",
    );
    await bench().sh("held", `! dd if=${disk} of=/dev/null count=1 iflag=direct`);
    await eventually(
      () =>
        attach("held", id).then(
          () => true,
          () => false,
        ),
      () => "the volume could never be attached again",
    );
    await bench().disk("held", id);
    await detach("held", id);
  });
});

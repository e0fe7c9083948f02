import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { quietWork } from "@skep/base";
import { useBench } from "./machine-volumes.ts";
import { eventually } from "./support.ts";

const mib = 1024 ** 2;
const work = quietWork();

const bench = useBench();

const volumesOf = (name: string) => bench().machines.get(name).volumes;
const attach = (name: string, volume: string) => bench().machines.attachVolume(name, { volume }, work);
const detach = (name: string, volume: string, force = false) =>
  bench().machines.detachVolume(name, volume, { force }, work);

describe("a volume of a running machine", () => {
  let id = "";
  before(async () => {
    await bench().tiny("web");
    ({ id } = await bench().volumes.create({ sizeBytes: 64 * mib, name: "data" }));
  });
  after(() => bench().machines.remove("web", { force: true }, work));

  it("is attached by name, seen by its serial, written, detached, and read when it comes back", async () => {
    const attached = await attach("web", "data");
    assert.equal(attached.device, `/dev/disk/by-id/virtio-${id.replace("-", "")}`);
    assert.equal(attached.slot, 0);
    const disk = await bench().disk("web", id);
    await bench().sh("web", `echo hello > ${disk}; sync`);
    await detach("web", "data");
    assert.deepEqual(volumesOf("web"), []);
    assert.deepEqual([...bench().volumes.served], []);
    assert.equal(await bench().sh("web", "ls /sys/block | grep vd; true"), "");
    await attach("web", id);
    assert.equal(await bench().sh("web", `head -n 1 ${await bench().disk("web", id)}`), "hello\n");
    await detach("web", id);
  });

  it("keeps its place over a restart, also beside others", async () => {
    const others = [
      await bench().volumes.create({ sizeBytes: mib }),
      await bench().volumes.create({ sizeBytes: mib }),
    ];
    for (const volume of [...others, { id }]) await attach("web", volume.id);
    await detach("web", others[0]?.id as string);
    const places = () => volumesOf("web").map((volume) => [volume.id, volume.slot]);
    const address = async (volume: string) => {
      const disk = (await bench().disk("web", volume)).replace("/dev/", "");
      return (await bench().sh("web", `readlink -f /sys/block/${disk}/device`)).replace(/\/virtio\d+\n$/, "");
    };
    const hot = [places(), await address(id)];
    assert.deepEqual(places(), [
      [others[1]?.id, 1],
      [id, 2],
    ]);
    await bench().machines.restart("web", { wait: true }, work);
    assert.deepEqual([places(), await address(id)], hot);
    assert.equal(await bench().sh("web", `head -n 1 ${await bench().disk("web", id)}`), "hello\n");
    await detach("web", others[1]?.id as string);
    await detach("web", id);
  });

  for (const [what, use, release, where] of [
    ["as swap", "mkswap $d && swapon $d", "swapoff $d", "swap"],
    [
      "mounted",
      "modprobe vfat && mkdosfs $d >/dev/null && mkdir -p /mnt && mount -t vfat $d /mnt",
      "umount /mnt",
      "/mnt",
    ],
  ] as const) {
    it(`is not detached while the guest has it ${what}, unless by force`, async () => {
      await attach("web", id);
      const disk = await bench().disk("web", id);
      await bench().sh("web", `d=${disk}; ${use}`);
      await assert.rejects(detach("web", id), { code: "VOLUME_USED", message: new RegExp(`: ${where}$`) });
      assert.equal(volumesOf("web")[0]?.detaching, false);
      if (what === "mounted") await bench().sh("web", "echo precious > /mnt/a; sync");
      else await bench().sh("web", `d=${disk}; ${release}`);
      await detach("web", id, what === "mounted");
      if (what === "mounted") await bench().sh("web", `${release}; true`);
    });
  }

  it("has what was synced before it was taken by force", async () => {
    await attach("web", id);
    const disk = await bench().disk("web", id);
    assert.equal(
      await bench().sh("web", `mount -t vfat ${disk} /mnt && cat /mnt/a && umount /mnt`),
      "precious\n",
    );
    await detach("web", id);
  });

  it("is read only where that was asked for", async () => {
    await bench().machines.attachVolume("web", { volume: id, readOnly: true }, work);
    const disk = await bench().disk("web", id);
    assert.equal(
      await bench().sh("web", `blockdev --getro ${disk} || cat /sys/block/\${disk##*/}/ro`),
      "1\n",
    );
    await detach("web", id);
  });

  it("shows its new size to the guest at once", async () => {
    await attach("web", id);
    const disk = (await bench().disk("web", id)).replace("/dev/", "");
    await bench().volumes.grow(id, 96 * mib);
    await bench().machines.volumeResized(id, 96 * mib);
    assert.equal(volumesOf("web")[0]?.sizeBytes, 96 * mib);
    await eventually(
      async () =>
        (await bench().sh("web", `cat /sys/block/${disk}/size`)).trim() === String((96 * mib) / 512),
      () => "the guest never saw the new size",
    );
    await detach("web", id);
  });

  it("leaves nothing behind when attaching fails midway", async () => {
    bench().volumes.broken.add(id);
    try {
      await assert.rejects(attach("web", id), { code: "QMP_ERROR" });
    } finally {
      bench().volumes.broken.delete(id);
    }
    assert.deepEqual(volumesOf("web"), []);
    assert.deepEqual([...bench().volumes.served], []);
    await attach("web", id);
    await detach("web", id);
  });

  it("is taken back when QEMU dies while it is attached", async () => {
    await bench().tiny("dies");
    const serve = bench().volumes.serve.bind(bench().volumes);
    bench().volumes.serve = async (...request) => {
      const answer = await serve(...request);
      process.kill(bench().machines.get("dies").pid as number, "SIGKILL");
      return answer;
    };
    await assert.rejects(attach("dies", id));
    bench().volumes.serve = serve;
    await eventually(
      () => bench().machines.get("dies").state === "stopped",
      () => "QEMU never ended",
    );
    assert.deepEqual([volumesOf("dies"), [...bench().volumes.served]], [[], []]);
    await bench().machines.remove("dies", {}, work);
  });

  it("belongs to one machine at a time", async () => {
    await bench().tiny("other", { start: false });
    await attach("web", id);
    await assert.rejects(attach("web", id), { code: "VOLUME_ATTACHED", message: /machine "web"/ });
    await assert.rejects(attach("other", id), { code: "VOLUME_ATTACHED" });
    await assert.rejects(detach("other", id), { code: "VOLUME_NOT_ATTACHED" });
    assert.equal(bench().machines.machineOf(id), "web");
    await detach("web", id);
    const tries = await Promise.allSettled([attach("web", id), attach("other", id)]);
    assert.deepEqual(tries.map(({ status }) => status).sort(), ["fulfilled", "rejected"]);
    await detach(bench().machines.machineOf(id) as string, id);
    assert.equal(bench().machines.machineOf(id), undefined);
    await bench().machines.remove("other", {}, work);
  });

  it("is refused when every place is taken", async () => {
    const many = [];
    for (let n = 0; n < 8; n += 1) many.push(await bench().volumes.create({ sizeBytes: mib }));
    for (const each of many) await attach("web", each.id);
    await assert.rejects(attach("web", id), { code: "SLOTS_TAKEN", message: /8 volumes/ });
    for (const each of many) await bench().disk("web", each.id);
    for (const each of many) {
      await detach("web", each.id);
      await bench().volumes.remove(each.id);
    }
  });
});

import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { devicesOf, differences } from "./compat.ts";
import { hostRecord } from "./testing.ts";
import type { HostRecord } from "./types.ts";

const argv = [
  ...["/usr/bin/qemu-system-x86_64", "-name", "guest=web", "-uuid", "1", "-nodefaults"],
  ...["-machine", "pc-q35-7.2,memory-backend=ram,vmport=off", "-accel", "tcg,tb-size=256", "-cpu", "max"],
  ...["-smp", "2", "-m", "1024M", "-object", "memory-backend-file,id=ram,mem-path=/dev/shm/skep-1/ram"],
  ...["-drive", "if=pflash,unit=0,format=raw,readonly=on,file=/usr/share/a,,b.fd"],
  ...["-netdev", "user,id=net,hostfwd=tcp:127.0.0.1:2222-:22"],
  ...["-device", "virtio-net-pci,netdev=net,id=network,mac=52:54:00:00:00:01,addr=0x2,romfile="],
  ...["-device", "vmgenid,guid=5f0c1d2e-0000-4000-8000-123456789abc"],
];

suite("the record of devices", () => {
  test("says what the guest sees, and nothing that is of one host or one copy", () => {
    assert.deepEqual(devicesOf(argv).argv, [
      "-machine memory-backend=ram,vmport=off",
      "-smp 2",
      "-m 1024M",
      "-drive if=pflash,unit=0,format=raw,readonly=on",
      "-device virtio-net-pci,netdev=net,id=network,addr=0x2,romfile=",
      "-device vmgenid",
    ]);
  });

  test("is the same for another name, home, port, MAC and start", () => {
    const other = argv.map((word) =>
      word
        .replace("00:01", "00:02")
        .replace("2222", "2223")
        .replace("skep-1", "skep-2")
        .replace("web", "db")
        .replace("5f0c", "6a1b"),
    );
    const resumed = [...other, "-incoming", "defer", "-S", "-global", "migration.send-configuration=off"];
    assert.equal(devicesOf(resumed).sha256, devicesOf(argv).sha256);
  });
});

suite("the difference of two hosts", () => {
  const differ = (change: (here: HostRecord) => void) => {
    const here = hostRecord();
    change(here);
    return differences(hostRecord(), here);
  };

  test("is none where they are the same", () => {
    assert.deepEqual(
      differ(() => {}),
      [],
    );
  });

  test("names what was and what is", () => {
    const found = differ((here) => {
      Object.assign(here, { qemu: "8.0.1", accelerator: "kvm", cpuModel: "host", machineType: "pc-q35-8.0" });
    });
    assert.deepEqual(found, [
      "it was saved with QEMU 7.2.22, and here is 8.0.1",
      "it was saved with accelerator tcg, and here is kvm",
      "it was saved with machine type pc-q35-7.2, and here is pc-q35-8.0",
      "it was saved with CPU model max, and here is host",
    ]);
    assert.deepEqual(
      differ((here) => Object.assign(here, { arch: "aarch64" })),
      ["it was saved with architecture x86_64, and here is aarch64"],
    );
  });

  test("names CPU features that are missing or too many, and only a few of many", () => {
    assert.deepEqual(
      differ((here) => Object.assign(here, { cpuFeatures: ["avx", "avx512", "sse4.2"] })),
      ["CPU feature avx2 missing here", "CPU feature avx512 only here"],
    );
    const many = Array.from({ length: 20 }, (_, index) => `f${index}`);
    const [more] = differ((here) => Object.assign(here, { cpuFeatures: [...here.cpuFeatures, ...many] }));
    assert.match(more ?? "", /^CPU features f0; .* and 12 more only here$/);
  });

  test("names devices that are missing or new, one that is there twice, and another order", () => {
    const second = "virtio-blk-pci,addr=0x6";
    const withDevices = (...devices: string[]) => ({
      ...hostRecord(),
      devices: devicesOf(devices.flatMap((one) => ["-device", one])),
    });
    const one = withDevices("virtio-rng-pci", second);
    assert.deepEqual(differences(one, withDevices("virtio-rng-pci")), [
      `device -device ${second} missing here`,
    ]);
    assert.deepEqual(differences(one, withDevices("virtio-rng-pci", second, second)), [
      `device -device ${second} only here`,
    ]);
    assert.deepEqual(differences(one, withDevices(second, "virtio-rng-pci")), [
      "its devices are in another order here",
    ]);
  });
});

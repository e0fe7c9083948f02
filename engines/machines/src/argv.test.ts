import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { type ArgvContext, qemuArguments } from "./argv.ts";
import type { MachineFile } from "./machine-file.ts";
import { machinePaths, runtimePaths } from "./paths.ts";

const file: MachineFile = {
  version: 1,
  id: "03b49149-ddde-4aee-a2d6-47ed93d7dba8",
  name: "web",
  createdAt: "2026-01-01T00:00:00.000Z",
  arch: "x86_64",
  cpus: 2,
  memoryMiB: 2048,
  firmware: "bios",
  machineType: "pc-q35-7.2",
  mac: "52:54:00:01:02:03",
  generation: "7f3ba9ee-94e2-4ffa-a82a-90721b717c3b",
  uid: null,
  image: { name: "debian-12", digest: "sha256:00" },
  from: null,
  boot: {
    kernel: "images/00/vmlinuz",
    initramfs: "images/00/initramfs",
    arguments: "root=LABEL=skep-root ro",
  },
  kernelArguments: "",
  disk: { sizeBytes: 10 * 1024 ** 3, base: { path: "images/00/disk.raw", format: "raw" } },
  cdrom: null,
  dataDisks: [],
  volumes: [],
  ports: [{ hostAddress: "127.0.0.1", hostPort: 20022, guestPort: 22, protocol: "tcp", automatic: true }],
  user: "debian",
  ssh: true,
  seeded: true,
  autostart: false,
  telnetPort: null,
  suspended: null,
  restart: { policy: "no", attempts: null },
  check: null,
  suspendAfterSeconds: null,
};

function line(
  change: Partial<MachineFile> = {},
  home = "/srv/skep",
  more: Partial<ArgvContext> = {},
): string[] {
  const changed = { ...file, ...change };
  return qemuArguments(changed, {
    qemu: "/usr/bin/qemu-system-x86_64",
    accelerator: "tcg",
    home,
    paths: machinePaths(home, changed.name),
    runtime: runtimePaths("/run/skep/12345678", changed.id),
    served: {},
    memory: { path: "/dev/shm/skep-03b49149/ram", share: true },
    helper: true,
    ...more,
    firmwareCode: changed.firmware === "uefi" ? "/usr/share/firmware.fd" : null,
  });
}

const after = (args: string[], option: string) => args.filter((_, index) => args[index - 1] === option);

describe("QEMU's command line", () => {
  it("is a function of the machine's file", () => {
    assert.deepEqual(line(), line());
  });

  it("gives each PCI device a slot of its own, with as many disks as there can be", () => {
    const full = { dataDisks: Array.from({ length: 16 }, () => ({ sizeBytes: 1024 ** 3 })) };
    for (const change of [{}, { arch: "aarch64", machineType: "virt-7.2", firmware: "uefi" }] as const) {
      const onBus = after(line({ ...full, ...change }), "-device").filter((device) =>
        /^[^,]*pci/.test(device),
      );
      const slots = onBus.map((device) => /,addr=([^,]*)/.exec(device)?.[1]);
      assert.ok(!slots.includes(undefined), onBus[slots.indexOf(undefined)]);
      assert.equal(new Set(slots).size, slots.length);
    }
  });

  it("keeps QEMU from starting programs, whatever the machine is", () => {
    for (const change of [{}, { arch: "aarch64", machineType: "virt-7.2", firmware: "uefi" }] as const) {
      assert.ok(
        line(change).includes("on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"),
      );
    }
  });

  it("counts memory in MiB, never in MB", () => {
    assert.deepEqual(after(line({ memoryMiB: 512 }), "-m"), ["512M"]);
  });

  it("names the disk's base itself, so that the overlay's header cannot choose a file of the host", () => {
    const root = after(line(), "-blockdev").map((text) => JSON.parse(text))[0];
    assert.equal(root.backing.file.filename, "/srv/skep/images/00/disk.raw");
    assert.equal(root.backing["read-only"], true);
  });

  it("names the base of a data disk, too, where it has one", () => {
    const base = { path: "layers/a.qcow2", format: "qcow2" } as const;
    const nodes = after(line({ dataDisks: [{ sizeBytes: 1024, base }, { sizeBytes: 1024 }] }), "-blockdev")
      .map((text) => JSON.parse(text))
      .filter((node) => node["node-name"].startsWith("data-"));
    assert.deepEqual(
      nodes.map(({ backing }) => backing?.file.filename),
      ["/srv/skep/layers/a.qcow2", undefined],
    );
  });

  it("shares memory of its own with the file, and borrowed memory never, of which it bounds what it translates", () => {
    const path = "/dev/shm/skep-frozen-st-00000000000000001/ram";
    const memory = (args: string[]) => after(args, "-object").find((text) => text.includes("id=ram"));
    assert.match(memory(line()) as string, /mem-path=\/dev\/shm\/skep-03b49149\/ram,share=on$/);
    assert.match(after(line(), "-accel")[0] as string, /tb-size=256$/);
    const borrowed = line({}, "/srv/skep", { memory: { path, share: false } });
    assert.match(memory(borrowed) as string, new RegExp(`mem-path=${path},share=off$`));
    assert.match(after(borrowed, "-accel")[0] as string, /tb-size=64$/);
  });

  it("has a port for the guest's helper, unless a saved machine knows none", () => {
    const ports = (args: string[]) =>
      after(args, "-device").filter((text) => text.startsWith("virtserialport")).length;
    assert.equal(ports(line()), 2);
    const without = line({}, "/srv/skep", { helper: false });
    assert.equal(ports(without), 1);
    assert.ok(!without.some((text) => text.includes("helper")));
  });

  it("doubles commas in paths, which its option parser splits at", () => {
    const args = line({}, "/srv/a,b");
    assert.ok(
      after(args, "-chardev").some((text) => text.includes("logfile=/srv/a,,b/machines/web/console.log")),
    );
  });

  it("binds forwards to the address that was asked for", () => {
    assert.match(after(line(), "-netdev")[0] as string, /hostfwd=tcp:127\.0\.0\.1:20022-:22$/);
  });

  it("keeps every fixed device at its place when disks are added", () => {
    const fixed = (args: string[]) =>
      after(args, "-device").filter((text) => /id=(network|serial|disk-root|port\d)/.test(text));
    assert.deepEqual(
      fixed(line()),
      fixed(line({ dataDisks: Array.from({ length: 16 }, () => ({ sizeBytes: 1024 })) })),
    );
  });

  it("puts the seed behind all data disks, so that their names in the guest begin with vdb", () => {
    const sizes = Array.from({ length: 16 }, () => ({ sizeBytes: 1024 }));
    const slots = after(line({ dataDisks: sizes }), "-device")
      .filter((text) => text.startsWith("virtio-blk-pci"))
      .map((text) => [/id=disk-([a-z]+)/.exec(text)?.[1], Number(/addr=(\w+)/.exec(text)?.[1])] as const);
    assert.equal(new Set(slots.map(([, slot]) => slot)).size, 18);
    const names = slots.toSorted(([, a], [, b]) => a - b).map(([name]) => name);
    assert.deepEqual(names, ["root", ...Array(16).fill("data"), "seed"]);
  });

  it("has a volume on its root port, as another disk than all others, and waits for its server", () => {
    const id = "vol-0123456789abcdef0";
    const data = { id, role: "data", readOnly: false, sizeBytes: 4096, slot: 3, detaching: false } as const;
    const args = line({ volumes: [data] });
    const device = after(args, "-device").at(-1) as string;
    assert.match(device, /^virtio-blk-pci,bus=port3,drive=vol-0123456789abcdef0,/);
    const serial = /,serial=([^,]*)/.exec(device)?.[1] as string;
    assert.equal(serial, "vol0123456789abcdef0");
    assert.equal(serial.length, 20); // VIRTIO_BLK_ID_BYTES
    const node = after(args, "-blockdev")
      .map((text) => JSON.parse(text))
      .at(-1);
    assert.deepEqual([node["node-name"], node.file["reconnect-delay"]], [id, 2 ** 32 - 1]);
    assert.ok(args.indexOf(device) > args.findIndex((word) => word.startsWith("pcie-root-port,id=port3,")));
  });

  it("has a root volume at the place of the disk, and variables on a volume as flash memory", () => {
    const own = { readOnly: false, sizeBytes: 540_672, slot: null, detaching: false };
    const root = { ...own, id: "vol-00000000000000001", role: "root" } as const;
    const efi = { ...own, id: "vol-00000000000000002", role: "efi" } as const;
    const args = line({ disk: null, boot: null, firmware: "uefi", volumes: [root, efi] });
    const place = (text: string) => /,addr=([^,]*)/.exec(text)?.[1];
    const disks = (of: string[]) => after(of, "-device").filter((text) => text.includes("bootindex=1"));
    assert.deepEqual(disks(args).map(place), disks(line({ boot: null })).map(place));
    assert.match(after(args, "-machine")[0] as string, /,pflash1=vol-00000000000000002$/);
    assert.ok(!args.some((word) => word.includes("efi-vars.fd")));
  });

  it("gives an ISO the place after the disk", () => {
    const devices = after(line({ cdrom: "/isos/a.iso", boot: null, seeded: false }), "-device");
    assert.ok(
      devices.some((text) => text.startsWith("virtio-blk-pci,drive=root") && text.includes("bootindex=1")),
    );
    assert.ok(devices.some((text) => text.startsWith("ide-cd") && text.includes("bootindex=2")));
  });
});

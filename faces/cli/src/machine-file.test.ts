import assert from "node:assert/strict";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { parseDocument } from "yaml";
import { checkYaml, machineFileKeys, parseMachineFile } from "./machine-file.ts";
import { machineRequest } from "./request.ts";

test("docs/machine.yaml loads, names every setting, and changes nothing", async () => {
  const path = join(import.meta.dirname, "../../../docs/machine.yaml");
  const content = await readFile(path, "utf8");
  const settings = parseMachineFile(content, path);
  const written = Object.keys(parseDocument(content).toJS() as object);
  assert.deepEqual(written.sort(), [...machineFileKeys].sort());
  const request = await machineRequest({ ...settings, name: "web" }, "/nonexistent");
  const plain = {
    ...request,
    ports: [],
    dataDisks: [],
    volumes: [],
    env: {},
    autostart: false,
    telnet: false,
    firmware: "bios",
  };
  assert.deepEqual(request, plain);
});

test("a machine file puts its disk, and others, on volumes", async () => {
  const text = "root-volume: 40G\nvolumes: [data, 'log:ro']\nefi-volume: true\nuser-keys: false\n";
  const request = await machineRequest({ ...parseMachineFile(text, "/a.yaml"), name: "web" }, "/nonexistent");
  assert.deepEqual(request, {
    name: "web",
    rootVolume: { sizeBytes: 40 * 1024 ** 3 },
    volumes: [{ volume: "data" }, { volume: "log", readOnly: true }],
    efiVolume: true,
    sshKeys: [],
  });
  const { rootVolume } = parseMachineFile("root-volume: true", "/a.yaml");
  assert.equal(rootVolume, true);
  assert.throws(() => parseMachineFile("root-volume: [1]", "/a.yaml"), { code: "YAML_INVALID" });
});

test("a machine file becomes a request", async () => {
  const directory = await mkdtemp("/tmp/skep-cli-");
  try {
    await writeFile(join(directory, "cloud.yaml"), "#cloud-config\npackages: [nginx]\n");
    const settings = parseMachineFile(
      "image: debian-12\ncpus: 2\nmemory: 2G\ndisk: 20G\nports: ['8080:80', 22]\nenv: {A: 1}\nwait: true\ntimeout: 2m\nuser-data: {file: cloud.yaml}\n",
      join(directory, "machine.yaml"),
    );
    assert.deepEqual(await machineRequest({ ...settings, name: "web" }, "/nonexistent"), {
      name: "web",
      image: "debian-12",
      cpus: 2,
      memoryMiB: 2048,
      diskBytes: 20 * 1024 ** 3,
      ports: [
        { hostPort: 8080, guestPort: 80 },
        { hostPort: 0, guestPort: 22 },
      ],
      sshKeys: [],
      userData: "#cloud-config\npackages: [nginx]\n",
      env: { A: "1" },
      start: true,
      wait: true,
      waitSeconds: 120,
    });
  } finally {
    await rm(directory, { recursive: true });
  }
});

test("unknown keys are refused with their line and the nearest known one", () => {
  const read = (text: string) => parseMachineFile(text, "m.yaml");
  assert.throws(() => read("cpus: 2\nmemroy: 2G\n"), /m\.yaml, line 2: "memroy".*did you mean "memory"/);
  assert.throws(() => read("__proto__: {}\n"), { code: "KEY_UNKNOWN" });
  assert.throws(() => read("mounts: [/srv]\n"), { code: "MOUNT_LATER", message: /line 1/ });
  assert.throws(() => read("cpus: two\n"), /line 1: cpus must be a whole number/);
  assert.throws(() => read("name: [\n"), { code: "YAML_INVALID" });
  assert.throws(() => read("name: a\nname: b\n"), { code: "YAML_INVALID" });
  assert.throws(() => read("- a\n"), { code: "YAML_INVALID" });
  assert.deepEqual(read(""), {});
});

test("cloud-config that is not YAML is refused with its line", () => {
  assert.throws(
    () => checkYaml("#cloud-config\npackages: [nginx\nx: y\n", "u.yaml", "correct it"),
    /u\.yaml, line \d/,
  );
  checkYaml("#cloud-config\npackages: [nginx]\n", "u.yaml", "correct it");
});

test("one base at most", async () => {
  await assert.rejects(machineRequest({ name: "a", image: "x", from: "y" }, "/nonexistent"), /one base/);
});

import { dirname, resolve } from "node:path";
import { SkepError } from "@skep/base";
import { isMap, isScalar, LineCounter, type Node, parseDocument } from "yaml";
import { fail } from "./errors.ts";
import { didYouMean } from "./nearest.ts";

/** What a machine.yaml or the flags of `new` say, still as people write it. */
export interface MachineSettings {
  name?: string;
  image?: string;
  from?: string;
  cdrom?: string;
  arch?: string;
  cpus?: number;
  memory?: string;
  disk?: string;
  dataDisks?: string[];
  /** True: as large as the disk would be. */
  rootVolume?: string | true;
  volumes?: string[];
  efiVolume?: boolean;
  firmware?: "bios" | "uefi";
  ports?: string[];
  user?: string;
  sshKeys?: string[];
  userKeys?: boolean;
  /** Its first start boots, whatever templates there are. */
  cold?: boolean;
  userData?: TextSource;
  networkConfig?: TextSource;
  env?: Record<string, string>;
  kernelArguments?: string;
  autostart?: boolean;
  restart?: string;
  check?: string;
  checkInterval?: string;
  checkTimeout?: string;
  checkFailures?: string;
  checkStart?: string;
  suspendAfter?: string;
  telnet?: boolean;
  start?: boolean;
  wait?: boolean;
  timeout?: string;
}

export type TextSource = { text: string } | { path: string };

type Reader = (value: unknown, base: string) => Partial<MachineSettings> | string;

const text =
  (key: keyof MachineSettings): Reader =>
  (value) =>
    typeof value === "string" && value !== "" ? { [key]: value } : "must be text";

/** Sizes and durations are text, or a bare number. */
const amount =
  (key: keyof MachineSettings): Reader =>
  (value) =>
    typeof value === "string" || typeof value === "number"
      ? { [key]: `${value}` }
      : "must be a size or a duration";

const flag =
  (key: keyof MachineSettings): Reader =>
  (value) =>
    typeof value === "boolean" ? { [key]: value } : "must be true or false";

const list =
  (key: keyof MachineSettings): Reader =>
  (value) =>
    Array.isArray(value) && value.every((item) => typeof item === "string" || typeof item === "number")
      ? { [key]: value.map(String) }
      : "must be a list";

const source =
  (key: keyof MachineSettings): Reader =>
  (value, base) => {
    if (typeof value === "string") return { [key]: { text: value } };
    const isFile = typeof value === "object" && value !== null && Object.keys(value).join() === "file";
    const file = isFile ? (value as { file: unknown }).file : undefined;
    return typeof file === "string"
      ? { [key]: { path: resolve(base, file) } }
      : "must be text (a block that begins with |), or file: PATH";
  };

const readers: Record<string, Reader> = {
  name: text("name"),
  image: text("image"),
  from: text("from"),
  cdrom: text("cdrom"),
  arch: text("arch"),
  cpus: (value) =>
    Number.isInteger(value) && (value as number) > 0
      ? { cpus: value as number }
      : "must be a whole number above 0",
  memory: amount("memory"),
  disk: amount("disk"),
  "data-disks": list("dataDisks"),
  "root-volume": (value) => {
    if (typeof value === "boolean") return value ? { rootVolume: true } : {};
    return typeof value === "string" || typeof value === "number"
      ? { rootVolume: `${value}` }
      : "must be true, false or a size";
  },
  volumes: list("volumes"),
  "efi-volume": flag("efiVolume"),
  firmware: (value) => (value === "bios" || value === "uefi" ? { firmware: value } : "must be bios or uefi"),
  ports: list("ports"),
  user: text("user"),
  "ssh-keys": list("sshKeys"),
  "user-keys": flag("userKeys"),
  "user-data": source("userData"),
  "network-config": source("networkConfig"),
  env: (value) => {
    if (typeof value !== "object" || value === null || Array.isArray(value))
      return "must be NAME: VALUE pairs";
    const plain = Object.values(value).every((item) => ["string", "number", "boolean"].includes(typeof item));
    return plain
      ? { env: Object.fromEntries(Object.entries(value).map(([key, item]) => [key, String(item)])) }
      : "must be NAME: VALUE pairs";
  },
  "kernel-args": text("kernelArguments"),
  autostart: flag("autostart"),
  // YAML 1.1's way to write no.
  restart: (value, base) => (value === false ? { restart: "no" } : text("restart")(value, base)),
  check: text("check"),
  "check-interval": amount("checkInterval"),
  "check-timeout": amount("checkTimeout"),
  "check-failures": amount("checkFailures"),
  "check-start": amount("checkStart"),
  // YAML 1.1's way to write off.
  "suspend-after": (value, base) =>
    value === false ? { suspendAfter: "off" } : amount("suspendAfter")(value, base),
  telnet: flag("telnet"),
  start: flag("start"),
  wait: flag("wait"),
  timeout: amount("timeout"),
};

/** Every key that a machine.yaml may hold. */
export const machineFileKeys: readonly string[] = Object.keys(readers);

/**
 * Reads a machine.yaml. Keys without a value, and `null`, mean the default. Unknown keys are refused with
 * their line and the nearest known one; `file:` paths count from the file's own directory.
 */
export function parseMachineFile(content: string, path: string): MachineSettings {
  const lines = new LineCounter();
  const document = parseDocument(content, { lineCounter: lines, prettyErrors: false });
  const lineOf = (node: Node | null | undefined) =>
    node?.range == null ? 1 : lines.linePos(node.range[0]).line;
  const problem = document.errors[0];
  if (problem !== undefined) {
    throw fail("YAML_INVALID", {
      path,
      line: lines.linePos(problem.pos[0]).line,
      why: firstLine(problem.message),
      hint: "docs/machine.yaml is an example",
    });
  }
  if (document.contents === null) return {};
  if (!isMap(document.contents)) {
    throw fail("YAML_INVALID", {
      path,
      line: 1,
      why: "a machine is a list of KEY: VALUE lines",
      hint: "docs/machine.yaml is an example",
    });
  }
  const settings: MachineSettings = {};
  for (const pair of document.contents.items) {
    const key = isScalar(pair.key) ? String(pair.key.value) : "?";
    const line = lineOf(pair.key as Node);
    if (key === "mounts") throw fail("MOUNT_LATER", { where: ` (${path}, line ${line})` });
    const reader = Object.hasOwn(readers, key) ? readers[key] : undefined;
    if (reader === undefined) {
      throw fail("KEY_UNKNOWN", {
        path,
        line,
        key: key.slice(0, 60),
        nearest: didYouMean(key, machineFileKeys),
      });
    }
    const value = (pair.value as Node | null)?.toJS(document) ?? null;
    if (value === null) continue;
    const read = reader(value, dirname(path));
    if (typeof read === "string") {
      throw fail("YAML_INVALID", {
        path,
        line,
        why: `${key} ${read}`,
        hint: "docs/machine.yaml is an example",
      });
    }
    Object.assign(settings, read);
  }
  return settings;
}

function firstLine(message: string): string {
  return message.split("\n")[0]!.slice(0, 200);
}

/** Refuses cloud-config that is not YAML, with the line; other kinds of user-data pass as they are. */
export function checkYaml(content: string, path: string, hint: string): void {
  const lines = new LineCounter();
  const document = parseDocument(content, { lineCounter: lines, prettyErrors: false });
  const problem = document.errors[0];
  if (problem !== undefined) {
    throw fail("YAML_INVALID", {
      path,
      line: lines.linePos(problem.pos[0]).line,
      why: firstLine(problem.message),
      hint,
    });
  }
  if (document.contents !== null && !isMap(document.contents)) {
    throw new SkepError("YAML_INVALID", `${path}: it holds no KEY: VALUE lines`, { hint, status: 400 });
  }
}

import { mkdir, readdir, rm, stat, utimes } from "node:fs/promises";
import { join } from "node:path";
import type { Arch } from "@skep/api/schemas";
import { exists, isErrno, readVersionedJson, syncDirectory, writeVersionedJson } from "@skep/base";
import type { DiskBase } from "@skep/machines";
import { isStateId } from "./paths.ts";
import { isObject, line, oneOf, orNull, pattern, record, type Shape, whole } from "./shape.ts";
import { failTemplate } from "./template-errors.ts";

/**
 * `$SKEP_HOME/templates/<id>.json`: a machine that has booted once, for others to begin where it is. It is written
 * last, and removed first: its state and its layer are kept because it names them. Its file's time of modification
 * tells when it was last used.
 */
export interface TemplateRecord {
  version: 1;
  /** That of its state. */
  id: string;
  /** ISO 8601, UTC. */
  createdAt: string;
  image: { name: string; digest: string };
  arch: Arch;
  cpus: number;
  memoryMiB: number;
  /** 0: it has no disk. */
  diskBytes: number;
  /** What of a machine must be the same (template-shape.ts). */
  key: string;
  qemu: string;
  /** sha256 of its state's manifest. */
  digest: string;
  mac: string;
  /** What a machine's disk stands on; null where it has none. */
  layer: DiskBase | null;
  /** Size of the seed's device that its guest has seen; 0: it has none. */
  seedBytes: number;
  /** Where its login user's authorized keys are; null: it cannot be told. */
  keysFile: string | null;
  /** The keys in there. */
  publicKeys: string[];
  /** Whether its guest's agent runs programs. */
  agent: boolean;
  populatedMiB: number;
  storedBytes: number;
}

export interface DamagedTemplate {
  id: string;
  why: string;
}

const suffix = ".json";
const size = whole(0, Number.MAX_SAFE_INTEGER);
const sha256 = pattern(/^[0-9a-f]{64}$/);
const keys: Shape = (value, at) =>
  Array.isArray(value) && value.length <= 256 && value.every((one) => typeof one === "string")
    ? undefined
    : `${at} is not a list of keys`;

const shape = record({
  version: oneOf(1),
  id: pattern(/^st-[0-9a-f]{17}$/),
  createdAt: pattern(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?Z$/),
  image: record({ name: line(256), digest: pattern(/^sha256:[0-9a-f]{64}$/) }),
  arch: oneOf("x86_64", "aarch64"),
  cpus: whole(1, 4096),
  memoryMiB: whole(1, 2 ** 24),
  diskBytes: size,
  key: sha256,
  qemu: line(64),
  digest: sha256,
  mac: pattern(/^([0-9a-f]{2}:){5}[0-9a-f]{2}$/),
  layer: orNull(
    record({ path: pattern(/^layers\/[0-9a-f]{8}-[0-9a-f-]{27}\.qcow2$/), format: oneOf("qcow2") }),
  ),
  seedBytes: size,
  keysFile: orNull(pattern(/^\/[^\s]{1,4000}$/)),
  publicKeys: keys,
  agent: oneOf(true, false),
  populatedMiB: size,
  storedBytes: size,
});

function directoryOf(home: string): string {
  return join(home, "templates");
}

function recordPath(home: string, id: string): string {
  return join(directoryOf(home), `${id}${suffix}`);
}

/** The one point at which a template comes to be. */
export async function writeTemplate(home: string, template: TemplateRecord): Promise<void> {
  const directory = directoryOf(home);
  if (!(await exists(directory))) {
    await mkdir(directory, { recursive: true, mode: 0o700 });
    await syncDirectory(home);
  }
  await writeVersionedJson(recordPath(home, template.id), template);
}

/** From then on it is none; nothing happens where it is gone. */
export async function forgetTemplate(home: string, id: string): Promise<void> {
  await rm(recordPath(home, id), { force: true });
  await syncDirectory(directoryOf(home));
}

/** TEMPLATE_NOT_FOUND, TEMPLATE_DAMAGED. */
async function readTemplate(home: string, id: string): Promise<TemplateRecord> {
  const path = recordPath(home, id);
  let value: unknown;
  try {
    value = await readVersionedJson(path, 1);
  } catch (error) {
    if (isErrno(error, "ENOENT")) throw failTemplate("TEMPLATE_NOT_FOUND", { template: id });
    throw failTemplate("TEMPLATE_DAMAGED", { template: id, why: (error as Error).message }, { cause: error });
  }
  const why = isObject(value) ? shape(value, "it") : "it is no object";
  const other = why === undefined && (value as { id: string }).id !== id ? "it is that of another one" : why;
  if (other !== undefined) {
    throw failTemplate("TEMPLATE_DAMAGED", { template: id, why: `${path}: ${other}` });
  }
  return value as TemplateRecord;
}

/** Oldest first. What else lies there counts for nothing. */
export async function readTemplates(
  home: string,
): Promise<{ templates: TemplateRecord[]; damaged: DamagedTemplate[] }> {
  const names = await readdir(directoryOf(home)).catch((error: unknown) => {
    if (isErrno(error, "ENOENT")) return [];
    throw error;
  });
  const templates: TemplateRecord[] = [];
  const damaged: DamagedTemplate[] = [];
  for (const name of names.filter((one) => one.endsWith(suffix)).sort()) {
    const id = name.slice(0, -suffix.length);
    if (!isStateId(id)) continue;
    try {
      templates.push(await readTemplate(home, id));
    } catch (error) {
      const { code, message } = error as { code?: string; message: string };
      if (code === "TEMPLATE_NOT_FOUND") continue; // gone meanwhile
      damaged.push({ id, why: message });
    }
  }
  templates.sort((one, other) => (one.createdAt < other.createdAt ? -1 : 1));
  return { templates, damaged };
}

/** For the sweep of layers. Fails where what is held cannot be told. */
export async function layersOfTemplates(home: string): Promise<DiskBase[]> {
  const { templates, damaged } = await readTemplates(home);
  if (damaged.length > 0) {
    throw new Error(`templates cannot be read: ${damaged.map(({ id }) => id).join(", ")}`);
  }
  return templates.flatMap(({ layer }) => layer ?? []);
}

/** When it was last used; milliseconds since 1970. */
export async function usedAt(home: string, id: string): Promise<number> {
  const found = await stat(recordPath(home, id)).catch(() => undefined);
  return found?.mtimeMs ?? 0;
}

export async function noteUse(home: string, id: string): Promise<void> {
  const now = new Date();
  await utimes(recordPath(home, id), now, now);
}

/**
 * Makes protocols/api/src/generated/operations.ts from the OpenAPI document of faces/control, and
 * docs/errors.md from all rooms' error tables. Run: npm run generate
 */
import { glob, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import type { ErrorTable } from "@skep/base";
import {
  createControl,
  type ImageEngine,
  type MachineEngine,
  openStore,
  type StateEngine,
  type StorageEngine,
  type VolumeEngine,
} from "@skep/control";
import { silentLog } from "@skep/control/testing";

interface Schema {
  $ref?: string;
  type?: string;
  title?: string;
  description?: string;
  const?: unknown;
  enum?: unknown[];
  anyOf?: Schema[];
  items?: Schema;
  properties?: Record<string, Schema>;
  patternProperties?: Record<string, Schema>;
  additionalProperties?: boolean | Schema;
  required?: string[];
}

interface Operation {
  operationId: string;
  description?: string;
  parameters?: { name: string; in: string; required?: boolean; schema: Schema }[];
  requestBody?: { content: Record<string, { schema: Schema }> };
  responses: Record<string, { content?: Record<string, { schema: Schema }> }>;
}

interface Document {
  components?: { schemas?: Record<string, Schema> };
  paths: Record<string, Record<string, Operation>>;
}

export const repository = join(import.meta.dirname, "..");
export const operationsPath = join(repository, "protocols/api/src/generated/operations.ts");
export const errorsPath = join(repository, "docs/errors.md");

/** The OpenAPI document as skepd would serve it; no engine is needed, as nothing is called. */
export async function openApiDocument(): Promise<Document> {
  const directory = await mkdtemp(join(tmpdir(), "skep-generate-"));
  const store = openStore(join(directory, "skep.db"));
  const control = await createControl({
    machines: {} as MachineEngine,
    states: {} as StateEngine,
    images: {} as ImageEngine,
    storage: {} as StorageEngine,
    volumes: {} as VolumeEngine,
    store,
    log: silentLog,
    version: "0",
    home: directory,
    tlsDirectory: join(directory, "tls"),
    saveListen: async () => {},
    shutdown() {},
  });
  try {
    return control.app.swagger() as unknown as Document;
  } finally {
    await control.close();
    store.close();
    await rm(directory, { recursive: true });
  }
}

const key = (name: string) => (/^[A-Za-z_$][\w$]*$/.test(name) ? name : JSON.stringify(name));

function typeOf(schema: Schema, indent = ""): string {
  if (schema.$ref !== undefined) return schema.$ref.slice(schema.$ref.lastIndexOf("/") + 1);
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.enum !== undefined) return schema.enum.map((value) => JSON.stringify(value)).join(" | ");
  if (schema.anyOf !== undefined) return schema.anyOf.map((one) => typeOf(one, indent)).join(" | ");
  switch (schema.type) {
    case "string":
    case "boolean":
    case "null":
      return schema.type;
    case "integer":
    case "number":
      return "number";
    case "array": {
      const item = typeOf(schema.items ?? {}, indent);
      return /[|&]/.test(item) ? `(${item})[]` : `${item}[]`;
    }
    case "object":
      return objectType(schema, indent);
    default:
      return "unknown";
  }
}

function objectType(schema: Schema, indent: string): string {
  const pattern = Object.values(schema.patternProperties ?? {})[0];
  if (pattern !== undefined) return `Record<string, ${typeOf(pattern, indent)}>`;
  if (typeof schema.additionalProperties === "object") {
    return `Record<string, ${typeOf(schema.additionalProperties, indent)}>`;
  }
  const lines = Object.entries(schema.properties ?? {}).map(([name, property]) => {
    const doc = property.description === undefined ? "" : `${indent}  /** ${property.description} */\n`;
    const optional = schema.required?.includes(name) ? "" : "?";
    return `${doc}${indent}  ${key(name)}${optional}: ${typeOf(property, `${indent}  `)};`;
  });
  return lines.length === 0 ? "Record<string, never>" : `{\n${lines.join("\n")}\n${indent}}`;
}

/** How an operation answers: `json`, `raw` bytes, an `events` stream or a `socket`. */
function kindOf(operation: Operation): { kind: string; response: string } {
  for (const [status, { content }] of Object.entries(operation.responses)) {
    if (status === "101") return { kind: "socket", response: "never" };
    if (!/^2/.test(status)) continue;
    const [type, body] = Object.entries(content ?? {})[0] ?? [];
    if (type === undefined || body === undefined) return { kind: "json", response: "undefined" };
    if (type === "text/event-stream") return { kind: "events", response: "never" };
    if (type !== "application/json") return { kind: "raw", response: "never" };
    const response = typeOf(body.schema, "    ");
    return { kind: "json", response: response === "null" ? "undefined" : response };
  }
  throw new Error(`${operation.operationId} has no good answer`);
}

function paramsOf(operation: Operation): string {
  const parts: string[] = [];
  for (const place of ["path", "query"]) {
    const listed = (operation.parameters ?? []).filter((parameter) => parameter.in === place);
    if (listed.length === 0) continue;
    const fields = listed.map(
      ({ name, required, schema }) => `${key(name)}${required ? "" : "?"}: ${typeOf(schema, "      ")}`,
    );
    const optional = listed.some(({ required }) => required) ? "" : "?";
    parts.push(`${place}${optional}: { ${fields.join("; ")} }`);
  }
  const body = operation.requestBody?.content["application/json"]?.schema;
  if (body !== undefined) parts.push(`body: ${typeOf(body, "      ")}`);
  return parts.length === 0 ? "Record<never, never>" : `{ ${parts.join("; ")} }`;
}

/** The generated module's text. */
export function renderClient(document: Document): string {
  const types = Object.entries(document.components?.schemas ?? {})
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, schema]) => {
      const type = typeOf(schema);
      return schema.type === "object" && type.startsWith("{")
        ? `export interface ${name} ${type}`
        : `export type ${name} = ${type};`;
    });
  const operations = Object.entries(document.paths)
    .flatMap(([path, methods]) =>
      Object.entries(methods).map(([method, operation]) => ({
        path,
        method: method.toUpperCase(),
        operation,
      })),
    )
    .sort((a, b) => (a.operation.operationId < b.operation.operationId ? -1 : 1));
  const shapes = operations.map(({ operation }) => {
    const doc = operation.description === undefined ? "" : `  /** ${operation.description} */\n`;
    return `${doc}  ${operation.operationId}: {\n    params: ${paramsOf(operation)};\n    response: ${kindOf(operation).response};\n  };`;
  });
  const table = operations.map(
    ({ path, method, operation }) =>
      `  ${operation.operationId}: { method: "${method}", path: "${path}", kind: "${kindOf(operation).kind}" },`,
  );
  return `// Made by scripts/generate-client.ts from the OpenAPI document of faces/control: npm run generate

${types.join("\n\n")}

/** Parameters and answer of each operation. */
export interface Operations {
${shapes.join("\n")}
}

export const operations = {
${table.join("\n")}
} as const;
`;
}

/** Every error table of the house, by room; S3's own codes (`errors` of faces/s3) are documented by S3. */
export async function errorTables(): Promise<{ room: string; table: ErrorTable }[]> {
  const tables: { room: string; table: ErrorTable }[] = [];
  const pattern = "{protocols,engines,faces,apps}/*/src/**/*errors.ts";
  const files: string[] = [];
  for await (const file of glob(pattern, { cwd: repository })) files.push(file);
  for (const file of files.sort()) {
    const module = (await import(pathToFileURL(join(repository, file)).href)) as Record<string, unknown>;
    const room = file.split("/").slice(0, 2).join("/");
    for (const [name, value] of Object.entries(module)) {
      if (name.endsWith("Errors") && typeof value === "object")
        tables.push({ room, table: value as ErrorTable });
    }
  }
  return tables;
}

export async function renderErrors(): Promise<string> {
  const cell = (text: string) => text.replaceAll("|", "\\|").replaceAll("\n", " ");
  const rooms = new Map<string, string[]>();
  for (const { room, table } of await errorTables()) {
    const rows = rooms.get(room) ?? [];
    for (const [code, { message, hint = "", status }] of Object.entries(table)) {
      rows.push(`| \`${code}\` | ${status} | ${cell(message)} | ${cell(hint)} |`);
    }
    rooms.set(room, rows);
  }
  const sections = [...rooms].map(
    ([room, rows]) =>
      `## ${room}\n\n| code | status | message | next step |\n|---|---|---|---|\n${rows.sort().join("\n")}\n`,
  );
  return `# Errors

Every error has a code that stays, a message that names the object, and mostly a next step. The
control API sends \`{"error": {"code", "message", "hint"}}\` under the HTTP status below; the command
prints message and next step, with \`--json\` the same object. \`{words in braces}\` are filled in.

Over S3 the codes are S3's, and come as XML (docs/objects.md): they are not listed here, and what
engines/objects and protocols/sigv4 say is told there under the S3 code that fits.

This page is made from the error tables of all rooms (\`npm run generate\`); a test fails when it
differs from them.

${sections.join("\n")}`;
}

if (import.meta.main) {
  await writeFile(operationsPath, renderClient(await openApiDocument()));
  await writeFile(errorsPath, await renderErrors());
}

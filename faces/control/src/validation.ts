import type { FastifySchemaCompiler } from "fastify";
import type { TSchema } from "typebox";
import { Compile } from "typebox/compile";
import { Value } from "typebox/value";
import { fail } from "./errors.ts";

interface Fault {
  keyword: string;
  instancePath: string;
  params: object;
  message: string;
}

/**
 * Checks against a schema; made at the first use, since most routes of a daemon are seldom used.
 * Numbers and booleans of a query or path are converted, a body is taken as it is.
 */
export const validatorCompiler: FastifySchemaCompiler<TSchema> = ({ schema, httpPart }) => {
  let compiled: ReturnType<typeof Compile> | undefined;
  return (value: unknown) => {
    compiled ??= Compile(schema);
    // A request without a body is one without fields: `curl -X POST …/start` is enough.
    const converted = httpPart === "body" ? (value ?? {}) : Value.Convert(schema, value);
    if (compiled.Check(converted)) return { value: converted };
    return { error: fail("REQUEST_INVALID", { why: describe(compiled.Errors(converted) as Fault[]) }) };
  };
};

/** Parses a text frame of a socket; hostile input ends in FRAME_INVALID. */
export function parseFrame<T>(check: { Check(value: unknown): boolean; Errors(value: unknown): unknown[] }) {
  return (text: string): T => {
    let value: unknown;
    try {
      value = JSON.parse(text);
    } catch (error) {
      throw fail("FRAME_INVALID", { why: "it is not JSON" }, { cause: error });
    }
    if (!check.Check(value)) {
      throw fail("FRAME_INVALID", { why: describe(check.Errors(value) as Fault[]) });
    }
    return value as T;
  };
}

/** One readable sentence that names the fields. */
export function describe(faults: readonly Fault[]): string {
  const unknown = faults.find(({ keyword }) => keyword === "additionalProperties");
  if (unknown !== undefined) {
    const names = (unknown.params as { additionalProperties?: string[] }).additionalProperties ?? [];
    const where = unknown.instancePath === "" ? "" : ` in ${field(unknown.instancePath)}`;
    const listed = names.slice(0, 5).map((name) => `"${name.slice(0, 60)}"`);
    return `unknown field${names.length > 1 ? "s" : ""} ${listed.join(", ")}${where}`;
  }
  const first = faults.find(({ keyword }) => keyword !== "boolean") ?? faults[0];
  if (first === undefined) return "it does not fit the schema";
  const at = first.instancePath;
  const choices = faults.filter(({ keyword, instancePath }) => keyword === "const" && instancePath === at);
  if (choices.length > 0) {
    const allowed = choices.map(({ params }) =>
      JSON.stringify((params as { allowedValue?: unknown }).allowedValue),
    );
    return `${field(at)} must be ${allowed.join(" or ")}`;
  }
  if (first.keyword === "required") {
    const names = (first.params as { requiredProperties?: string[] }).requiredProperties ?? [];
    const where = at === "" ? "" : ` in ${field(at)}`;
    return `${names.map((name) => `"${name}"`).join(", ")} is missing${where}`;
  }
  return `${field(at)} ${first.message}`;
}

/** `/ports/0/hostPort` → `"ports[0].hostPort"`. */
function field(path: string): string {
  if (path === "") return "it";
  const name = path
    .slice(1)
    .split("/")
    .map((part) => part.replaceAll("~1", "/").replaceAll("~0", "~"))
    .reduce(
      (whole, part) => (/^\d+$/.test(part) ? `${whole}[${part}]` : whole === "" ? part : `${whole}.${part}`),
      "",
    );
  return `"${name.slice(0, 120)}"`;
}

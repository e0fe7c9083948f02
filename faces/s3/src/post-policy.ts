/**
 * The policy of a browser's upload form: what fields it may have, how large the file may be, until when.
 * Source: the S3 API reference, "Creating a POST policy".
 */
import { fail } from "./errors.ts";

/** By name in lower case. */
export type FormFields = Readonly<Record<string, string>>;

export interface SizeLimits {
  readonly least: number;
  readonly most: number;
}

type Check =
  | { kind: "eq" | "starts-with"; field: string; value: string; source: string }
  | { kind: "content-length-range"; limits: SizeLimits };

/** Fields that no condition has to allow; a checksum can only make the form stricter. */
const free = /^(awsaccesskeyid|signature|x-amz-signature|policy|file|x-ignore-.*|x-amz-checksum-.*)$/;
const maxPolicyLength = 64 * 1024;

/**
 * Holds a form against its policy (base64, as in the field). Gives the sizes the file may have.
 * InvalidPolicyDocument where it cannot be read; AccessDenied where it has expired or a field does not fit.
 */
export function checkPostPolicy(base64: string, fields: FormFields, now: number): SizeLimits | undefined {
  const { expiration, checks } = parsePostPolicy(base64);
  if (expiration <= now) throw denied("Policy expired");
  const covered = new Set<string>();
  let limits: SizeLimits | undefined;
  for (const check of checks) {
    if (check.kind === "content-length-range") {
      limits = narrower(limits, check.limits);
      continue;
    }
    covered.add(check.field);
    const value = fields[check.field] ?? "";
    const holds = check.kind === "eq" ? value === check.value : startsWith(check, value);
    if (!holds) throw denied(`Policy Condition failed: ${check.source}`);
  }
  for (const name of Object.keys(fields)) {
    if (!covered.has(name) && !free.test(name)) throw denied(`Extra input fields: ${name}`);
  }
  return limits;
}

/** A list of content types, with commas between, fits where each of them does. */
function startsWith({ field, value: prefix }: { field: string; value: string }, value: string): boolean {
  if (field !== "content-type") return value.startsWith(prefix);
  return value.split(",").every((type) => type.trim().startsWith(prefix));
}

function narrower(a: SizeLimits | undefined, b: SizeLimits): SizeLimits {
  return a === undefined ? b : { least: Math.max(a.least, b.least), most: Math.min(a.most, b.most) };
}

function parsePostPolicy(base64: string): { expiration: number; checks: Check[] } {
  if (base64.length > maxPolicyLength) throw invalid("it is too long");
  let json: unknown;
  try {
    json = JSON.parse(Buffer.from(base64, "base64").toString("utf8"));
  } catch {
    throw invalid("it is not JSON in base64");
  }
  if (!isRecord(json)) throw invalid("it is no object");
  const { expiration, conditions, ...others } = json;
  const [unknown] = Object.keys(others);
  if (unknown !== undefined) throw invalid(`unexpected "${unknown}"`);
  if (typeof expiration !== "string") throw invalid("it lacks an expiration");
  const at = /^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d+)?Z$/.test(expiration)
    ? Date.parse(expiration)
    : Number.NaN;
  if (Number.isNaN(at)) throw invalid(`the expiration "${expiration}" is no time of ISO 8601 in UTC`);
  if (!Array.isArray(conditions)) throw invalid("it lacks a list of conditions");
  return { expiration: at, checks: conditions.flatMap(parseCondition) };
}

function parseCondition(json: unknown): Check[] {
  const source = JSON.stringify(json);
  if (Array.isArray(json)) return [parseListed(json, source)];
  if (!isRecord(json)) throw invalid(`the condition ${source} is neither a list nor an object`);
  const entries = Object.entries(json);
  if (entries.length === 0) throw invalid("a condition is empty");
  return entries.map(([name, value]) => {
    if (typeof value !== "string") throw invalid(`the value in ${source} is no string`);
    return { kind: "eq", field: name.toLowerCase(), value, source };
  });
}

function parseListed(list: readonly unknown[], source: string): Check {
  const [operator, a, b] = list;
  const kind = typeof operator === "string" ? operator.toLowerCase() : "";
  if (list.length !== 3) throw invalid(`the condition ${source} has not three parts`);
  if (kind === "content-length-range") {
    const [least, most] = [parseSize(a), parseSize(b)];
    if (least === undefined || most === undefined) throw invalid(`the condition ${source} has no sizes`);
    return { kind, limits: { least, most } };
  }
  if (kind !== "eq" && kind !== "starts-with") throw invalid(`the condition ${source} is not known`);
  if (typeof a !== "string" || !a.startsWith("$") || typeof b !== "string") {
    throw invalid(`the condition ${source} does not name a field with $`);
  }
  return { kind, field: a.slice(1).toLowerCase(), value: b, source };
}

function parseSize(value: unknown): number | undefined {
  const size = typeof value === "string" && /^\d{1,15}$/.test(value) ? Number(value) : value;
  return typeof size === "number" && Number.isSafeInteger(size) && size >= 0 ? size : undefined;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function invalid(why: string) {
  return fail("InvalidPolicyDocument", { why });
}

function denied(why: string) {
  return fail("AccessDenied", {}, { message: `Invalid according to Policy: ${why}` });
}

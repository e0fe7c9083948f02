/**
 * The Condition element of bucket policies.
 * Source: IAM user guide, "IAM JSON policy elements: Condition operators".
 */
import { BlockList, isIP, isIPv4 } from "node:net";
import { matches, type Pattern, parsePattern, type Resolve } from "./pattern.ts";

/** What the request says under a condition key (in lower case): undefined where it has no such key. */
export type ConditionKeys = (key: string) => string | readonly string[] | undefined;

export interface Condition {
  /** In lower case: `aws:sourceip`, `s3:existingobjecttag/team`. */
  readonly key: string;
  /** In lower case, without its qualifier and `IfExists`. */
  readonly operator: string;
  /** Only fixed values fit: no wildcards, no variables, no range that is half the world, nothing optional. */
  readonly narrows: boolean;
  /** One request, one answer; `resolve` gives the values of variables. */
  holds(keys: ConditionKeys, resolve: Resolve): boolean;
}

/** Whether a value of the request fits the values of the policy. */
type Test = (value: string, resolve: Resolve) => boolean;
/** Undefined where a value of the policy is not one for this operator. */
type Compile = (values: readonly string[]) => Test | undefined;

const text =
  (wildcards: boolean, ignoreCase = false): Compile =>
  (values) => {
    const patterns = values.map((value) => parsePattern(ignoreCase ? value.toLowerCase() : value, wildcards));
    return (value, resolve) => {
      const compared = ignoreCase ? value.toLowerCase() : value;
      return patterns.some((pattern) => matches(pattern, compared, resolve));
    };
  };

const compared =
  (read: (value: string) => number, holds: (a: number, b: number) => boolean): Compile =>
  (values) => {
    const bounds = values.map(read);
    if (bounds.some(Number.isNaN)) return undefined;
    return (value) => bounds.some((bound) => holds(read(value), bound));
  };

function readNumber(value: string): number {
  return /^[+-]?\d+(\.\d+)?$/.test(value.trim()) ? Number(value) : Number.NaN;
}

/** ISO 8601 or seconds since 1970, as milliseconds. */
function readDate(value: string): number {
  if (/^\d+(\.\d+)?$/.test(value)) return Number(value) * 1000;
  return /^\d{4}-\d{2}-\d{2}(T[\d:.]+(Z|[+-]\d{2}:?\d{2})?)?$/.test(value) ? Date.parse(value) : Number.NaN;
}

const truth: Compile = (values) => {
  const wanted = values.map((value) => value.toLowerCase());
  if (wanted.some((value) => value !== "true" && value !== "false")) return undefined;
  return (value) => wanted.includes(value.toLowerCase());
};

const binary: Compile = (values) => (value) => values.includes(value);

const address: Compile = (values) => {
  const list = new BlockList();
  for (const value of values) {
    const [net, bits, ...rest] = value.split("/");
    const family = isIP(net ?? "");
    const width = bits === undefined ? (family === 4 ? 32 : 128) : Number(bits);
    if (family === 0 || rest.length > 0 || (bits !== undefined && !/^\d{1,3}$/.test(bits))) return undefined;
    if (width > (family === 4 ? 32 : 128)) return undefined;
    list.addSubnet(net!, width, family === 4 ? "ipv4" : "ipv6");
  }
  return (value) => {
    // A socket that listens on :: reports an IPv4 peer like this.
    const plain = value.startsWith("::ffff:") && isIPv4(value.slice(7)) ? value.slice(7) : value;
    const family = isIP(plain);
    return family !== 0 && list.check(plain, family === 4 ? "ipv4" : "ipv6");
  };
};

/** Six parts with a colon between, each compared on its own: a wildcard does not reach over a colon. */
const arn: Compile = (values) => {
  const wanted: Pattern[][] = [];
  for (const value of values) {
    const parts = arnParts(value);
    if (parts === undefined) return undefined;
    wanted.push(parts.map((part) => parsePattern(part)));
  }
  return (value, resolve) => {
    const parts = arnParts(value);
    if (parts === undefined) return false;
    return wanted.some((patterns) => patterns.every((pattern, i) => matches(pattern, parts[i]!, resolve)));
  };
};

function arnParts(value: string): string[] | undefined {
  if (value === "*") return ["*", "*", "*", "*", "*", "*"];
  const parts = value.split(":");
  if (parts.length < 6 || parts[0] !== "arn") return undefined;
  return [...parts.slice(0, 5), parts.slice(5).join(":")];
}

interface Operator {
  compile: Compile;
  negated?: true;
}

const operators = new Map<string, Operator>(
  Object.entries({
    stringequals: { compile: text(false) },
    stringnotequals: { compile: text(false), negated: true },
    stringequalsignorecase: { compile: text(false, true) },
    stringnotequalsignorecase: { compile: text(false, true), negated: true },
    stringlike: { compile: text(true) },
    stringnotlike: { compile: text(true), negated: true },
    numericequals: { compile: compared(readNumber, (a, b) => a === b) },
    numericnotequals: { compile: compared(readNumber, (a, b) => a === b), negated: true },
    numericlessthan: { compile: compared(readNumber, (a, b) => a < b) },
    numericlessthanequals: { compile: compared(readNumber, (a, b) => a <= b) },
    numericgreaterthan: { compile: compared(readNumber, (a, b) => a > b) },
    numericgreaterthanequals: { compile: compared(readNumber, (a, b) => a >= b) },
    dateequals: { compile: compared(readDate, (a, b) => a === b) },
    datenotequals: { compile: compared(readDate, (a, b) => a === b), negated: true },
    datelessthan: { compile: compared(readDate, (a, b) => a < b) },
    datelessthanequals: { compile: compared(readDate, (a, b) => a <= b) },
    dategreaterthan: { compile: compared(readDate, (a, b) => a > b) },
    dategreaterthanequals: { compile: compared(readDate, (a, b) => a >= b) },
    bool: { compile: truth },
    binaryequals: { compile: binary },
    ipaddress: { compile: address },
    notipaddress: { compile: address, negated: true },
    arnequals: { compile: arn },
    arnlike: { compile: arn },
    arnnotequals: { compile: arn, negated: true },
    arnnotlike: { compile: arn, negated: true },
  }),
);

/** Addresses count as fixed from /8 (of IPv6: /32) on. */
function isFixed(value: string): boolean {
  const bits = /^[\da-fA-F:.]+\/(\d+)$/.exec(value)?.[1];
  if (bits !== undefined) return Number(bits) >= (value.includes(":") ? 32 : 8);
  return !/[*?]|\$\{/.test(value);
}

/** Undefined where there is no such operator, or where it cannot have these values. */
export function parseCondition(
  name: string,
  keyName: string,
  values: readonly string[],
): Condition | undefined {
  const [, set, base, ifExists] =
    /^(?:(forallvalues|foranyvalue):)?([a-z]+?)(ifexists)?$/.exec(name.toLowerCase()) ?? [];
  const key = keyName.toLowerCase();
  if (base === "null") {
    const wanted = set === undefined && ifExists === undefined ? truth(values) : undefined;
    if (wanted === undefined) return undefined;
    const holds: Condition["holds"] = (keys, resolve) => wanted(String(keys(key) === undefined), resolve);
    return { key, operator: base, narrows: false, holds };
  }
  const operator = operators.get(base ?? "");
  const test = operator?.compile(values);
  if (operator === undefined || test === undefined) return undefined;
  const negated = operator.negated === true;
  const one: Test = (value, resolve) => test(value, resolve) !== negated;
  return {
    key,
    operator: base!,
    narrows: set !== "forallvalues" && ifExists === undefined && values.every(isFixed),
    holds(keys, resolve) {
      const found = keys(key);
      const present = found === undefined ? [] : typeof found === "string" ? [found] : found;
      if (set === "forallvalues") return present.every((value) => one(value, resolve));
      if (set === "foranyvalue") {
        return present.length === 0 ? ifExists !== undefined : present.some((value) => one(value, resolve));
      }
      // What is not there is unequal to everything.
      if (present.length === 0) return negated || ifExists !== undefined;
      return negated
        ? present.every((value) => one(value, resolve))
        : present.some((value) => one(value, resolve));
    },
  };
}

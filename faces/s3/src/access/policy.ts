/**
 * Bucket policies: read once, strictly, and evaluated for each request.
 * Source: IAM user guide, "IAM JSON policy elements reference" and "Policy evaluation logic".
 */
import type { Account } from "@skep/accounts";
import { fail } from "../errors.ts";
import { isKnownAction } from "./actions.ts";
import { type Condition, type ConditionKeys, parseCondition } from "./conditions.ts";
import { matches, type Pattern, parsePattern, type Resolve } from "./pattern.ts";
import { namesCaller, type Principals, parsePrincipals } from "./principals.ts";

const maxPolicyBytes = 20 * 1024;
const arnPrefix = "arn:aws:s3:::";

export interface Policy {
  readonly statements: readonly Statement[];
  /** Grants something to everyone, by no condition that only few can meet. */
  readonly isPublic: boolean;
  /** Looks at the tags of the object there is. */
  readonly asksTags: boolean;
}

interface Statement {
  readonly allow: boolean;
  readonly principals: Principals;
  readonly notPrincipals: boolean;
  /** In lower case. */
  readonly actions: readonly Pattern[];
  readonly notActions: boolean;
  readonly resources: readonly Pattern[];
  readonly notResources: boolean;
  readonly conditions: readonly Condition[];
}

/** What is asked, in the words of policies. */
export interface Question {
  readonly caller: Account | undefined;
  /** `s3:GetObject`. */
  readonly action: string;
  /** `arn:aws:s3:::bucket/key`. */
  readonly resource: string;
  readonly keys: ConditionKeys;
}

export type Verdict = "allow" | "deny" | "silent";

/** `deny` wins over any `allow`. */
export function evaluate(policy: Policy, question: Question): Verdict {
  const action = question.action.toLowerCase();
  const resolve: Resolve = (variable) => {
    const value = question.keys(variable.toLowerCase());
    return typeof value === "string" ? value : undefined;
  };
  let verdict: Verdict = "silent";
  for (const statement of policy.statements) {
    // What is allowed already can only be denied.
    if (statement.allow && verdict === "allow") continue;
    if (!applies(statement, question, action, resolve)) continue;
    if (!statement.allow) return "deny";
    verdict = "allow";
  }
  return verdict;
}

function applies(statement: Statement, question: Question, action: string, resolve: Resolve): boolean {
  if (statement.actions.some((pattern) => matches(pattern, action)) === statement.notActions) return false;
  const named = statement.resources.some((pattern) => matches(pattern, question.resource, resolve));
  if (named === statement.notResources) return false;
  if (namesCaller(statement.principals, question.caller) === statement.notPrincipals) return false;
  return statement.conditions.every((condition) => condition.holds(question.keys, resolve));
}

/** MalformedPolicy, with what is wrong. */
export function parsePolicy(text: string, bucketName: string): Policy {
  if (Buffer.byteLength(text) > maxPolicyBytes) throw malformed("The policy exceeds 20480 bytes");
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    throw malformed("Policies must be valid JSON and the first byte must be '{'");
  }
  if (!isRecord(json)) throw malformed("Policies must be valid JSON and the first byte must be '{'");
  allowOnly(json, ["Version", "Id", "Statement"], "the policy");
  if (json.Version !== undefined && json.Version !== "2012-10-17" && json.Version !== "2008-10-17") {
    throw malformed("The policy must contain a valid version string");
  }
  if (json.Id !== undefined && typeof json.Id !== "string") throw malformed("Id must be a string");
  const list: unknown[] = Array.isArray(json.Statement) ? json.Statement : [json.Statement];
  if (json.Statement === undefined || list.length === 0) {
    throw malformed("Missing required field Statement");
  }
  const statements = list.map((statement) => parseStatement(statement, bucketName));
  const sids = list.map((statement) => (statement as Record<string, unknown>).Sid).filter(Boolean);
  if (new Set(sids).size !== sids.length) throw malformed("Statement IDs (Sid) must be unique");
  return {
    statements,
    isPublic: statements.some(grantsPublicly),
    asksTags: text.toLowerCase().includes("s3:existingobjecttag/"),
  };
}

function parseStatement(json: unknown, bucketName: string): Statement {
  if (!isRecord(json)) throw malformed("A statement must be an object");
  allowOnly(
    json,
    [
      "Sid",
      "Effect",
      "Principal",
      "NotPrincipal",
      "Action",
      "NotAction",
      "Resource",
      "NotResource",
      "Condition",
    ],
    "a statement",
  );
  if (json.Sid !== undefined && typeof json.Sid !== "string") throw malformed("Sid must be a string");
  if (json.Effect !== "Allow" && json.Effect !== "Deny") {
    throw malformed(json.Effect === undefined ? "Missing required field Effect" : "Invalid effect");
  }
  const principal = eitherOf(json, "Principal", "NotPrincipal");
  const principals = parsePrincipals(principal.value);
  if (principals === undefined) throw malformed("Invalid principal in policy");
  if (principal.negated && json.Effect === "Allow") {
    throw malformed("Allow with NotPrincipal is not allowed");
  }
  const action = eitherOf(json, "Action", "NotAction");
  const resource = eitherOf(json, "Resource", "NotResource");
  return {
    allow: json.Effect === "Allow",
    principals,
    notPrincipals: principal.negated,
    actions: strings(action.value, "Action").map(parseAction),
    notActions: action.negated,
    resources: strings(resource.value, "Resource").map((arn) => parseResource(arn, bucketName)),
    notResources: resource.negated,
    conditions: parseConditions(json.Condition),
  };
}

function parseAction(text: string): Pattern {
  const action = text.toLowerCase();
  if (action !== "*" && !isKnownAction(action)) throw malformed("Policy has invalid action");
  return parsePattern(action);
}

/** Only of this bucket: a policy that speaks of others would look as if it ruled them. */
function parseResource(arn: string, bucketName: string): Pattern {
  if (arn === "*") return parsePattern(arn);
  const path = arn.startsWith(arnPrefix) ? arn.slice(arnPrefix.length) : "";
  const slash = path.indexOf("/");
  const bucket = slash === -1 ? path : path.slice(0, slash);
  // `arn:aws:s3:::buck*` may reach over the slash.
  if (path === "" || !matches(parsePattern(bucket), bucketName, () => bucketName)) {
    throw malformed("Policy has invalid resource");
  }
  return parsePattern(arn);
}

function parseConditions(json: unknown): Condition[] {
  if (json === undefined) return [];
  if (!isRecord(json)) throw malformed("Condition must be an object");
  const conditions: Condition[] = [];
  for (const [operator, keys] of Object.entries(json)) {
    if (!isRecord(keys)) throw malformed("Conditions must be objects of keys and values");
    for (const [key, value] of Object.entries(keys)) {
      const list: unknown[] = Array.isArray(value) ? value : [value];
      if (list.some((one) => !["string", "number", "boolean"].includes(typeof one))) {
        throw malformed("The values of conditions must be strings, numbers or booleans");
      }
      if (!/^(aws|s3|saml|jwt|sts):./i.test(key)) throw malformed("Policy has an invalid condition key");
      const condition = parseCondition(operator, key, list.map(String));
      if (condition === undefined) {
        throw malformed(`Invalid Condition type or value : ${operator}`);
      }
      conditions.push(condition);
    }
  }
  return conditions;
}

/** Keys that, held to fixed values, leave few who can meet them. */
const narrowing = new Set([
  "aws:sourcearn",
  "aws:sourcevpc",
  "aws:sourcevpce",
  "aws:sourceowner",
  "aws:sourceaccount",
  "aws:sourceip",
  "aws:userid",
  "aws:username",
  "aws:principalaccount",
  "aws:principalarn",
  "aws:principalorgid",
  "s3:x-amz-server-side-encryption-aws-kms-key-id",
]);
const positive = new Set([
  "stringequals",
  "stringequalsignorecase",
  "stringlike",
  "arnequals",
  "arnlike",
  "ipaddress",
]);

/** Source: S3 user guide, "The meaning of public". */
function grantsPublicly(statement: Statement): boolean {
  if (!statement.allow || !statement.principals.everyone) return false;
  return !statement.conditions.some(
    (condition) => narrowing.has(condition.key) && positive.has(condition.operator) && condition.narrows,
  );
}

function eitherOf(json: Record<string, unknown>, name: string, negation: string) {
  if ((json[name] === undefined) === (json[negation] === undefined)) {
    throw malformed(`Missing required field ${name}`);
  }
  return json[name] === undefined
    ? { value: json[negation], negated: true }
    : { value: json[name], negated: false };
}

function strings(value: unknown, name: string): string[] {
  const list: unknown[] = Array.isArray(value) ? value : [value];
  if (list.length === 0 || list.some((one) => typeof one !== "string" || one === "")) {
    throw malformed(`${name} must be a string or a list of strings`);
  }
  return list as string[];
}

function allowOnly(json: Record<string, unknown>, names: readonly string[], where: string): void {
  for (const name of Object.keys(json)) {
    if (!names.includes(name)) throw malformed(`Unknown field ${name} in ${where}`);
  }
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function malformed(why: string) {
  return fail("MalformedPolicy", { why: `${why}.` });
}

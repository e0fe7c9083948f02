import assert from "node:assert/strict";
import { test } from "node:test";
import type { Account } from "@skep/accounts";
import { parseCondition } from "./conditions.ts";
import { matches, parsePattern } from "./pattern.ts";
import { evaluate, parsePolicy } from "./policy.ts";

const ann: Account = {
  id: "a".repeat(64),
  number: "111111111111",
  name: "ann",
  email: "ann@example.org",
  createdAt: "",
};
const bob: Account = { ...ann, id: "b".repeat(64), number: "222222222222", name: "bob" };

const valid = {
  Effect: "Allow",
  Principal: "*",
  Action: "s3:GetObject",
  Resource: "arn:aws:s3:::pail/*",
};
const policyOf = (...statements: object[]) =>
  parsePolicy(JSON.stringify({ Version: "2012-10-17", Statement: statements }), "pail");

test("a pattern matches as a whole, in time that no pattern can make explode", () => {
  const table: [string, string, boolean][] = [
    ["a", "a", true],
    ["a", "A", false],
    ["*", "", true],
    ["a*", "abc", true],
    ["*c", "abc", true],
    ["a*c", "abcbc", true],
    ["a*d", "abc", false],
    ["a?c", "abc", true],
    ["a?c", "ac", false],
    ["arn:aws:s3:::pail/*", "arn:aws:s3:::pail/x/y", true],
    ["arn:aws:s3:::pail/*", "arn:aws:s3:::pail", false],
    ["a.c", "abc", false],
    [`\${*}`, "*", true],
    [`\${*}`, "x", false],
    [`\${who}/*`, "ann/x", true],
    [`\${who}/*`, "bob/x", false],
    [`\${nobody}`, "", false],
    [`\${nobody, 'any'}`, "any", true],
    [`a\${`, `a\${`, true],
  ];
  for (const [pattern, text, expected] of table) {
    const compiled = parsePattern(pattern);
    const resolve = (name: string) => (name === "who" ? "ann" : undefined);
    assert.equal(matches(compiled, text, resolve), expected, `${pattern} ${text}`);
  }
  assert.equal(matches(parsePattern(`${"*a".repeat(60)}b`), "a".repeat(20_000)), false);
});

test("what a variable stands for is no pattern", () => {
  assert.equal(
    matches(parsePattern(`x-\${who}`), "x-ann", () => "*"),
    false,
  );
});

test("the operators of conditions", () => {
  const table: [operator: string, values: string[], given: string | string[] | undefined, holds: boolean][] =
    [
      ["StringEquals", ["a", "b"], "b", true],
      ["StringEquals", ["a*"], "ab", false],
      ["StringEquals", ["a*"], "a*", true],
      ["StringEquals", ["a"], undefined, false],
      ["StringEqualsIfExists", ["a"], undefined, true],
      ["StringEqualsIfExists", ["a"], "b", false],
      ["StringNotEquals", ["a", "b"], "c", true],
      ["StringNotEquals", ["a", "b"], "b", false],
      ["StringNotEquals", ["a"], undefined, true],
      ["StringEqualsIgnoreCase", ["AbC"], "aBc", true],
      ["StringNotEqualsIgnoreCase", ["AbC"], "aBc", false],
      ["StringLike", ["public*"], "public-read", true],
      ["StringLike", ["public*"], "private", false],
      ["StringNotLike", ["public*"], "private", true],
      ["stringlike", ["p?"], "px", true],
      ["NumericEquals", ["10"], "10", true],
      ["NumericNotEquals", ["10"], "11", true],
      ["NumericLessThan", ["10"], "9", true],
      ["NumericLessThan", ["10"], "10", false],
      ["NumericLessThanEquals", ["10"], "10", true],
      ["NumericGreaterThan", ["10"], "11", true],
      ["NumericGreaterThanEquals", ["10"], "9", false],
      ["NumericEquals", ["10"], "ten", false],
      ["DateLessThan", ["2026-01-01T00:00:00Z"], "2025-12-31T23:59:59Z", true],
      ["DateGreaterThan", ["1767225600"], "2026-01-01T00:00:01Z", true],
      ["DateEquals", ["2026-01-01"], "2026-01-01T00:00:00Z", true],
      ["Bool", ["true"], "true", true],
      ["Bool", ["false"], "true", false],
      ["Bool", ["true"], undefined, false],
      ["IpAddress", ["10.0.0.0/8", "2001:db8::/32"], "10.1.2.3", true],
      ["IpAddress", ["10.0.0.0/8", "2001:db8::/32"], "2001:db8::1", true],
      ["IpAddress", ["10.0.0.0/8"], "::ffff:10.1.2.3", true],
      ["IpAddress", ["10.0.0.0/8"], "11.1.2.3", false],
      ["IpAddress", ["10.0.0.1"], "10.0.0.1", true],
      ["NotIpAddress", ["10.0.0.0/8"], "11.1.2.3", true],
      ["ArnLike", ["arn:aws:iam::1:*"], "arn:aws:iam::1:user/x", true],
      ["ArnLike", ["arn:aws:*::2:*"], "arn:aws:iam::1:user/x", false],
      ["ArnNotEquals", ["arn:aws:iam::1:root"], "arn:aws:iam::2:root", true],
      ["Null", ["true"], undefined, true],
      ["Null", ["true"], "x", false],
      ["Null", ["false"], "x", true],
      ["BinaryEquals", ["QUJD"], "QUJD", true],
      ["ForAnyValue:StringEquals", ["a"], ["x", "a"], true],
      ["ForAnyValue:StringEquals", ["a"], ["x"], false],
      ["ForAnyValue:StringEquals", ["a"], undefined, false],
      ["ForAllValues:StringEquals", ["a", "b"], ["b", "a"], true],
      ["ForAllValues:StringEquals", ["a", "b"], ["a", "c"], false],
      ["ForAllValues:StringEquals", ["a"], undefined, true],
      ["ForAllValues:StringNotLike", ["x*"], ["a", "xa"], false],
    ];
  for (const [operator, values, given, expected] of table) {
    const condition = parseCondition(operator, "s3:prefix", values);
    const what = `${operator} ${values} ${given}`;
    assert.ok(condition, what);
    const held = condition.holds(
      (key) => (key === "s3:prefix" ? given : undefined),
      () => undefined,
    );
    assert.equal(held, expected, what);
  }
});

test("operators that do not exist, and values that do not fit them, are no conditions", () => {
  for (const [operator, value] of [
    ["StringEqual", "a"],
    ["NumericEquals", "ten"],
    ["NumericEquals", ""],
    ["DateEquals", "yesterday"],
    ["Bool", "yes"],
    ["IpAddress", "10.0.0.0/33"],
    ["IpAddress", "10.0.0/8"],
    ["IpAddress", "10.0.0.0/"],
    ["ArnLike", "pail"],
    ["ArnLike", "arn:aws:*:1:*"],
    ["Null", "maybe"],
    ["NullIfExists", "true"],
    ["ForSomeValues:StringEquals", "a"],
    ["__proto__", "a"],
    ["constructor", "a"],
  ] as const) {
    assert.equal(parseCondition(operator, "s3:prefix", [value]), undefined, `${operator} ${value}`);
  }
});

test("a policy that is not exactly one is refused, and says why", () => {
  const cases: [unknown, RegExp][] = [
    ["[]", /valid JSON/],
    ["{", /valid JSON/],
    ["", /valid JSON/],
    [{}, /Statement/],
    [{ Statement: [] }, /Statement/],
    [{ Statement: ["x"] }, /statement must be an object/],
    [{ Statement: [valid], Comment: 1 }, /Unknown field Comment/],
    [{ Version: "2020-01-01", Statement: [valid] }, /version/],
    [{ Id: 5, Statement: [valid] }, /Id/],
    [{ Statement: [{ ...valid, Effect: "allow" }] }, /effect/i],
    [{ Statement: [{ ...valid, Effect: undefined }] }, /Effect/],
    [{ Statement: [{ ...valid, Principal: undefined }] }, /Principal/],
    [{ Statement: [{ ...valid, NotPrincipal: "*" }] }, /Principal/],
    [{ Statement: [{ ...valid, Principal: undefined, NotPrincipal: { AWS: ann.number } }] }, /NotPrincipal/],
    [{ Statement: [{ ...valid, Principal: {} }] }, /principal/],
    [{ Statement: [{ ...valid, Principal: { AWS: [] } }] }, /principal/],
    [{ Statement: [{ ...valid, Principal: { AWS: "someone" } }] }, /principal/],
    [{ Statement: [{ ...valid, Principal: { AWS: "arn:aws:iam::111111111111:user/*" } }] }, /principal/],
    [{ Statement: [{ ...valid, Principal: { Who: "*" } }] }, /principal/],
    [{ Statement: [{ ...valid, Action: undefined }] }, /Action/],
    [{ Statement: [{ ...valid, Action: [] }] }, /Action/],
    [{ Statement: [{ ...valid, Action: "s3:GetObjct" }] }, /invalid action/],
    [{ Statement: [{ ...valid, Action: "ec2:*" }] }, /invalid action/],
    [{ Statement: [{ ...valid, Resource: undefined }] }, /Resource/],
    [{ Statement: [{ ...valid, Resource: "arn:aws:s3:::other/*" }] }, /invalid resource/],
    [{ Statement: [{ ...valid, Resource: "pail/*" }] }, /invalid resource/],
    [{ Statement: [{ ...valid, Condition: { StringEquals: "x" } }] }, /Condition/],
    [{ Statement: [{ ...valid, Condition: { StringEquals: { "s3:prefix": {} } } }] }, /values/],
    [{ Statement: [{ ...valid, Condition: { Equals: { "s3:prefix": "x" } } }] }, /Condition type/],
    [{ Statement: [{ ...valid, Condition: { StringEquals: { prefix: "x" } } }] }, /condition key/],
    [{ Statement: [{ ...valid, Extra: 1 }] }, /Unknown field Extra/],
    [
      {
        Statement: [
          { ...valid, Sid: "a" },
          { ...valid, Sid: "a" },
        ],
      },
      /unique/,
    ],
    [{ Id: "x".repeat(21_000), Statement: [valid] }, /20480/],
  ];
  for (const [policy, message] of cases) {
    const text = typeof policy === "string" ? policy : JSON.stringify(policy);
    assert.throws(() => parsePolicy(text, "pail"), { code: "MalformedPolicy", message }, text.slice(0, 200));
  }
});

test("who is meant by a principal", () => {
  const table: [principal: unknown, ann: boolean, bob: boolean, anonymous: boolean][] = [
    ["*", true, true, true],
    [{ AWS: "*" }, true, true, true],
    [{ AWS: ann.number }, true, false, false],
    [{ AWS: ann.id }, true, false, false],
    [{ CanonicalUser: ann.id }, true, false, false],
    [{ AWS: `arn:aws:iam::${ann.number}:root` }, true, false, false],
    [{ AWS: [`arn:aws:iam::${ann.number}:root`, bob.id] }, true, true, false],
    [{ AWS: `arn:aws:iam::${ann.number}:user/ann` }, true, false, false],
    [{ AWS: `arn:aws:iam::${ann.number}:user/bob` }, false, false, false],
    [{ AWS: `arn:aws:iam:::user/${bob.id}` }, false, true, false],
    [{ AWS: `arn:aws:iam::${ann.number}:role/ann` }, false, false, false],
    [{ Service: "logging.s3.amazonaws.com" }, false, false, false],
  ];
  for (const [principal, ...expected] of table) {
    const policy = policyOf({ ...valid, Principal: principal });
    const got = [ann, bob, undefined].map(
      (caller) =>
        evaluate(policy, {
          caller,
          action: "s3:GetObject",
          resource: "arn:aws:s3:::pail/x",
          keys: () => undefined,
        }) === "allow",
    );
    assert.deepEqual(got, expected, JSON.stringify(principal));
  }
});

test("a deny wins, wherever it stands; what nothing speaks of stays open", () => {
  const ask = (statements: object[], action: string, resource: string, caller: Account | undefined = ann) =>
    evaluate(policyOf(...statements), { caller, action, resource, keys: () => undefined });
  const deny = { ...valid, Effect: "Deny", Resource: "arn:aws:s3:::pail/secret/*" };
  const object = "arn:aws:s3:::pail/x";
  assert.equal(ask([valid], "s3:GetObject", object), "allow");
  assert.equal(ask([valid], "s3:PutObject", object), "silent");
  assert.equal(ask([{ ...valid, Action: "S3:getobject" }], "s3:GetObject", object), "allow");
  assert.equal(ask([{ ...valid, Action: "s3:Get*" }], "s3:GetObjectAcl", object), "allow");
  for (const statements of [
    [valid, deny],
    [deny, valid],
  ]) {
    assert.equal(ask(statements, "s3:GetObject", "arn:aws:s3:::pail/secret/x"), "deny");
    assert.equal(ask(statements, "s3:GetObject", object), "allow");
  }
  const but = { ...valid, Action: undefined, NotAction: "s3:GetObject" };
  assert.equal(ask([but], "s3:GetObject", object), "silent");
  assert.equal(ask([but], "s3:PutObject", object), "allow");
  const elsewhere = { ...valid, Resource: undefined, NotResource: "arn:aws:s3:::pail/a*" };
  assert.equal(ask([elsewhere], "s3:GetObject", "arn:aws:s3:::pail/a1"), "silent");
  assert.equal(ask([elsewhere], "s3:GetObject", object), "allow");
  const others = {
    ...deny,
    Resource: valid.Resource,
    Principal: undefined,
    NotPrincipal: { AWS: ann.number },
  };
  assert.equal(ask([valid, others], "s3:GetObject", object, ann), "allow");
  assert.equal(ask([valid, others], "s3:GetObject", object, bob), "deny");
});

test("a policy is public where everyone may, unless held to fixed addresses or accounts", () => {
  const table: [object, boolean][] = [
    [{}, true],
    [{ Effect: "Deny" }, false],
    [{ Principal: { AWS: "*" } }, true],
    [{ Principal: { AWS: ann.number } }, false],
    [{ Condition: { IpAddress: { "aws:SourceIp": "10.0.0.0/32" } } }, false],
    [{ Condition: { IpAddress: { "aws:SourceIp": "0.0.0.0/0" } } }, true],
    [{ Condition: { NotIpAddress: { "aws:SourceIp": "10.0.0.0/32" } } }, true],
    [{ Condition: { StringEquals: { "aws:PrincipalAccount": ann.number } } }, false],
    [{ Condition: { StringEqualsIfExists: { "aws:PrincipalAccount": ann.number } } }, true],
    [{ Condition: { StringLike: { "aws:PrincipalAccount": "*" } } }, true],
    [{ Condition: { StringLike: { "aws:Referer": "http://example.org/*" } } }, true],
  ];
  for (const [change, expected] of table) {
    assert.equal(policyOf({ ...valid, ...change }).isPublic, expected, JSON.stringify(change));
  }
});

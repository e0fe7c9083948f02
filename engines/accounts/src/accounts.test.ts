import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { test } from "node:test";
import { openAccounts } from "./accounts.ts";

async function temporary(): Promise<AsyncDisposable & { home: string }> {
  const home = await mkdtemp(join(tmpdir(), "sk-"));
  return { home, [Symbol.asyncDispose]: () => rm(home, { recursive: true, force: true }) };
}

test("the first account is there, and keys are made for it and for others", async () => {
  await using t = await temporary();
  using accounts = openAccounts(t);
  const root = accounts.root();
  assert.match(root.id, /^[0-9a-f]{64}$/);
  assert.match(root.number, /^\d{12}$/);
  assert.deepEqual(accounts.accounts(), [root]);
  const mine = accounts.createKey({});
  assert.match(mine.key.accessKeyId, /^[A-Z2-7]{20}$/);
  assert.match(mine.secret, /^[A-Za-z0-9]{40}$/);
  const other = accounts.createAccount({ name: "Ann O'Nym", email: "ann@example.org" });
  const scopes = [
    { bucket: "data", access: "read" as const },
    { bucket: "data", access: "write" as const },
  ];
  const theirs = accounts.createKey({ account: "ANN@example.org", name: "backup", scopes });
  assert.deepEqual(accounts.credential(theirs.key.accessKeyId), {
    accessKeyId: theirs.key.accessKeyId,
    secret: theirs.secret,
    account: other,
    scopes: [{ bucket: "data", access: "write" }],
  });
  assert.equal(accounts.credential(mine.key.accessKeyId)?.account.id, root.id);
  for (const reference of [other.id, other.number, other.name, other.email]) {
    assert.deepEqual(accounts.account(reference), other);
  }
});

test("all of it is there after opening again, and secrets are nowhere in the files", async () => {
  await using t = await temporary();
  let made: ReturnType<ReturnType<typeof openAccounts>["createKey"]>;
  {
    using accounts = openAccounts(t);
    made = accounts.createKey({ name: "one" });
    accounts.createKey({
      accessKeyId: "0555b35654ad1656d804",
      secret: "h7GhxuBLTrlhVUyxSPUKUV8r/2EI4ngqJxD7==",
    });
    for (const file of await readdir(t.home)) {
      const bytes = await readFile(join(t.home, file));
      assert.ok(!bytes.includes(made.secret) && !bytes.includes("h7GhxuBLTrlh"), file);
      assert.equal((await stat(join(t.home, file))).mode & 0o777, 0o600, file);
    }
  }
  using again = openAccounts(t);
  assert.deepEqual(again.keys()[0], made.key);
  assert.equal(again.credential(made.key.accessKeyId)?.secret, made.secret);
  assert.equal(again.credential("0555b35654ad1656d804")?.secret, "h7GhxuBLTrlhVUyxSPUKUV8r/2EI4ngqJxD7==");
});

test("a change is seen by another process's connection at its next look-up", async () => {
  await using t = await temporary();
  using writer = openAccounts(t);
  using reader = openAccounts(t);
  const { key, secret } = writer.createKey({});
  assert.equal(reader.credential(key.accessKeyId)?.secret, secret);
  assert.equal(reader.credential(key.accessKeyId), reader.credential(key.accessKeyId));
  writer.removeKey(key.accessKeyId);
  assert.equal(reader.credential(key.accessKeyId), undefined);
  writer.createKey({ accessKeyId: key.accessKeyId, secret: "another-one" });
  assert.equal(reader.credential(key.accessKeyId)?.secret, "another-one");
  reader.removeKey(key.accessKeyId);
  assert.equal(reader.credential(key.accessKeyId), undefined);
});

test("the house's own key of an account is in no list, the same everywhere, and goes with the account", async () => {
  await using t = await temporary();
  using one = openAccounts(t);
  using other = openAccounts(t);
  const ann = one.createAccount({ name: "ann" });
  const key = one.houseKey("ann");
  assert.deepEqual(key.account, ann);
  assert.deepEqual(other.credential(key.accessKeyId), key);
  assert.notEqual(one.houseKey("root").secret, key.secret);
  assert.deepEqual(one.keys(), []);
  assert.throws(() => one.createKey({ accessKeyId: key.accessKeyId }), { code: "KEY_INVALID" });
  one.removeAccount("ann");
  assert.equal(other.credential(key.accessKeyId), undefined);
  assert.equal(one.credential("SKEPHOUSEroot"), undefined);
});

test("what is in use stays, what is not there is named", async () => {
  await using t = await temporary();
  using accounts = openAccounts(t);
  const { name } = accounts.createAccount({ name: "ann" });
  const { key } = accounts.createKey({ account: name });
  assert.throws(() => accounts.removeAccount("ann"), { code: "ACCOUNT_IN_USE" });
  assert.throws(() => accounts.removeAccount("root"), { code: "ACCOUNT_ROOT" });
  accounts.removeKey(key.accessKeyId);
  assert.equal(accounts.removeAccount("ann").name, "ann");
  assert.throws(() => accounts.account("ann"), { code: "ACCOUNT_NOT_FOUND" });
  assert.throws(() => accounts.account(""), { code: "ACCOUNT_NOT_FOUND" });
  assert.throws(() => accounts.removeKey(key.accessKeyId), { code: "KEY_NOT_FOUND" });
  assert.throws(() => accounts.createKey({ account: "ann" }), { code: "ACCOUNT_NOT_FOUND" });
});

test("hostile names, emails, ids and scopes are refused; what is given twice too", async () => {
  await using t = await temporary();
  using accounts = openAccounts(t);
  const invalid = { code: "ACCOUNT_INVALID" };
  for (const name of [
    "",
    " a",
    "a\n",
    "a\0b",
    "x".repeat(65),
    "1".repeat(12),
    "a".repeat(64),
    "a@b",
    "a\u202eb",
  ]) {
    assert.throws(() => accounts.createAccount({ name }), invalid, JSON.stringify(name));
  }
  for (const email of ["a", "a@", "@b", "a b@c", "a@b\n", "a@b@c", `${"a".repeat(250)}@b.cd`, "a@-b"]) {
    assert.throws(() => accounts.createAccount({ name: "ok", email }), invalid, email);
  }
  for (const id of ["", "x", "A".repeat(64)]) {
    assert.throws(() => accounts.createAccount({ name: "ok", id }), invalid, id);
  }
  accounts.createAccount({ name: "Ann", email: "ann@b.cd", id: "ab".repeat(32) });
  const exists = { code: "ACCOUNT_EXISTS" };
  assert.throws(() => accounts.createAccount({ name: "ann" }), exists);
  assert.throws(() => accounts.createAccount({ name: "b", email: "ANN@b.cd" }), exists);
  assert.throws(() => accounts.createAccount({ name: "b", id: "ab".repeat(32) }), exists);
  accounts.createAccount({ name: "'; DROP TABLE keys; --" });

  const bad = { code: "KEY_INVALID" };
  for (const accessKeyId of ["", "ab", "a/b/c", "a b c", "x".repeat(129), "abc\n"]) {
    assert.throws(() => accounts.createKey({ accessKeyId }), bad, JSON.stringify(accessKeyId));
    assert.equal(accounts.credential(accessKeyId), undefined);
  }
  for (const secret of ["short", "with a space", "x".repeat(257), "umläut-secret"]) {
    assert.throws(() => accounts.createKey({ secret }), bad, secret);
  }
  for (const bucket of ["", "ab", "a/b", "..", "*", "x".repeat(64)]) {
    assert.throws(() => accounts.createKey({ scopes: [{ bucket, access: "read" }] }), bad, bucket);
  }
  assert.throws(() => accounts.createKey({ scopes: [{ bucket: "data", access: "own" as "read" }] }), bad);
  accounts.createKey({ accessKeyId: "twice" });
  assert.throws(() => accounts.createKey({ accessKeyId: "twice" }), { code: "KEY_EXISTS" });
});

test("a lost, wrong or damaged sealing file is said, and never replaced", async () => {
  await using t = await temporary();
  openAccounts(t)[Symbol.dispose]();
  const path = join(t.home, "accounts.key");
  const right = await readFile(path, "utf8");
  await rm(path);
  assert.throws(() => openAccounts(t), { code: "SEAL_MISSING" });
  await assert.rejects(stat(path), { code: "ENOENT" });
  await writeFile(path, "00".repeat(32));
  assert.throws(() => openAccounts(t), { code: "SEAL_WRONG" });
  await writeFile(path, right.slice(0, 20));
  assert.throws(() => openAccounts(t), { code: "SEAL_DAMAGED" });
  await writeFile(path, right);
  openAccounts(t)[Symbol.dispose]();
});

test("a sealed secret that was moved to another key does not open", async () => {
  await using t = await temporary();
  using accounts = openAccounts(t);
  const powerful = accounts.createKey({}).key.accessKeyId;
  const weak = accounts.createKey({ scopes: [{ bucket: "data", access: "read" }] }).key.accessKeyId;
  const thief = new DatabaseSync(join(t.home, "accounts.db"));
  thief
    .prepare(
      "UPDATE keys SET secret = (SELECT secret FROM keys WHERE access_key_id = ?) WHERE access_key_id = ?",
    )
    .run(weak, powerful);
  thief.close();
  assert.throws(() => accounts.credential(powerful), { code: "SEAL_WRONG" });
});

test("a database that is none, or a later one's, is refused", async () => {
  await using t = await temporary();
  const path = join(t.home, "accounts.db");
  await writeFile(path, "no database at all, but long enough to have a header ".repeat(40));
  assert.throws(() => openAccounts(t), { code: "ACCOUNTS_DAMAGED" });
  await rm(path);
  openAccounts(t)[Symbol.dispose]();
  const database = new DatabaseSync(path);
  database.exec("PRAGMA user_version = 2");
  database.close();
  assert.throws(() => openAccounts(t), { code: "ACCOUNTS_VERSION" });
});

test("a use is written at most once a minute, and what is left at the end", async () => {
  await using t = await temporary();
  let now = Date.parse("2026-01-01T00:00:00Z");
  const time = () => new Date(now).toISOString();
  const accounts = openAccounts(t, () => now);
  const { accessKeyId } = accounts.createKey({}).key;
  const lastUsed = () => accounts.keys()[0]?.lastUsedAt;
  assert.equal(lastUsed(), null);
  accounts.noteUse(accessKeyId);
  const first = time();
  assert.equal(lastUsed(), first);
  now += 59_000;
  accounts.noteUse(accessKeyId);
  assert.equal(lastUsed(), first);
  now += 1000;
  accounts.noteUse("unknown");
  accounts.noteUse(accessKeyId);
  const second = time();
  now += 1000;
  accounts[Symbol.dispose]();
  using again = openAccounts(t, () => now);
  assert.equal(again.keys()[0]?.lastUsedAt, second);
});

test("processes that open a new home at once agree on its first account", async () => {
  await using t = await temporary();
  const script = `
    import { openAccounts } from ${JSON.stringify(join(import.meta.dirname, "accounts.ts"))};
    using accounts = openAccounts({ home: ${JSON.stringify(t.home)} });
    const { key, secret } = accounts.createKey({});
    if (accounts.credential(key.accessKeyId).secret !== secret) throw new Error("another secret");
    console.log(accounts.root().id);`;
  const children = Array.from({ length: 4 }, () =>
    spawn(process.execPath, ["--conditions=skep-source", "--input-type=module-typescript", "-e", script], {
      stdio: ["ignore", "pipe", "inherit"],
    }),
  );
  const roots = await Promise.all(
    children.map(async (child) => {
      let output = "";
      child.stdout.setEncoding("utf8").on("data", (text: string) => (output += text));
      assert.deepEqual(await once(child, "close"), [0, null]);
      return output.trim();
    }),
  );
  assert.equal(new Set(roots).size, 1);
  using accounts = openAccounts(t);
  assert.equal(accounts.keys().length, 4);
  for (const { accessKeyId } of accounts.keys()) assert.ok(accounts.credential(accessKeyId));
  assert.deepEqual(
    (await readdir(t.home)).filter((name) => name.endsWith(".tmp")),
    [],
  );
});

import { randomBytes, randomInt } from "node:crypto";
import { join } from "node:path";
import type { DatabaseSync, StatementSync } from "node:sqlite";
import {
  checkAccessKeyId,
  checkAccountId,
  checkAccountName,
  checkEmail,
  checkKeyName,
  checkScopes,
  checkSecret,
  isAccessKeyId,
} from "./checks.ts";
import { openDatabase } from "./database.ts";
import { fail } from "./errors.ts";
import type { Seal } from "./seal.ts";
import type { AccessKey, Account, Accounts, Credential } from "./types.ts";

interface AccountRow {
  id: string;
  number: string;
  name: string;
  email: string | null;
  root: number;
  created_at: string;
}

interface KeyRow {
  access_key_id: string;
  account: string;
  name: string;
  secret: Uint8Array;
  scopes: string;
  created_at: string;
  last_used_at: string | null;
}

const lastUsedStepMs = 60_000;
const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
const secretAlphabet = `${letters}${letters.toLowerCase()}0123456789`;
const housePrefix = "SKEPHOUSE";
const idAlphabet = `${letters}234567`;

/** Opens `$SKEP_HOME/accounts.db` and `accounts.key`, or the files given; both are made where there are none. */
export function openAccounts(
  where: { home: string } | { database: string; keyFile: string },
  now: () => number = Date.now,
): Accounts {
  const database = "home" in where ? join(where.home, "accounts.db") : where.database;
  const keyFile = "home" in where ? join(where.home, "accounts.key") : where.keyFile;
  return new StoredAccounts(database, keyFile, now);
}

class StoredAccounts implements Accounts {
  readonly #path: string;
  readonly #keyFile: string;
  readonly #database: DatabaseSync;
  readonly #seal: Seal;
  readonly #now: () => number;
  readonly #dataVersion: StatementSync;
  readonly #credentials = new Map<string, Credential>();
  #seenVersion: unknown;
  readonly #used = new Map<string, number>();
  #usesWrittenAt = 0;

  constructor(path: string, keyFile: string, now: () => number) {
    this.#path = path;
    this.#keyFile = keyFile;
    this.#now = now;
    const { database, seal } = openDatabase(path, keyFile);
    this.#database = database;
    this.#seal = seal;
    this.#dataVersion = database.prepare("PRAGMA data_version");
    try {
      this.#makeRoot();
    } catch (error) {
      database.close();
      throw error;
    }
  }

  createAccount({ name, email = "", id }: { name: string; email?: string; id?: string }): Account {
    const checked = {
      name: checkAccountName(name),
      email: checkEmail(email),
      id: id === undefined ? randomBytes(32).toString("hex") : checkAccountId(id),
    };
    return this.#write(() => {
      for (const [what, value] of Object.entries(checked)) {
        if (value !== "" && this.#row(value) !== undefined) throw fail("ACCOUNT_EXISTS", { what, value });
      }
      return this.#insertAccount(checked, 0);
    });
  }

  accounts(): Account[] {
    const rows = this.#database.prepare("SELECT * FROM accounts ORDER BY rowid").all();
    return (rows as unknown as AccountRow[]).map(accountOf);
  }

  account(reference: string): Account {
    return accountOf(this.#existing(reference));
  }

  removeAccount(reference: string): Account {
    return this.#write(() => {
      const row = this.#existing(reference);
      if (row.root === 1) throw fail("ACCOUNT_ROOT", { name: row.name });
      const keys = this.#database
        .prepare("SELECT access_key_id AS id FROM keys WHERE account = ?")
        .all(row.id);
      if (keys.length > 0) {
        const named = keys.map(({ id }) => id).join(" ");
        throw fail("ACCOUNT_IN_USE", { name: row.name, count: keys.length, keys: named });
      }
      this.#database.prepare("DELETE FROM accounts WHERE id = ?").run(row.id);
      return accountOf(row);
    });
  }

  root(): Account {
    const row = this.#database.prepare("SELECT * FROM accounts WHERE root = 1").get();
    if (row === undefined)
      throw fail("ACCOUNTS_DAMAGED", { path: this.#path, why: "its first account is gone" });
    return accountOf(row as unknown as AccountRow);
  }

  createKey(given: Parameters<Accounts["createKey"]>[0]): { key: AccessKey; secret: string } {
    const accessKeyId =
      given.accessKeyId === undefined ? `SKEP${random(idAlphabet, 16)}` : checkAccessKeyId(given.accessKeyId);
    if (accessKeyId.startsWith(housePrefix)) {
      throw fail("KEY_INVALID", { what: "id", why: `${housePrefix}… is for the house's own keys` });
    }
    const secret = given.secret === undefined ? random(secretAlphabet, 40) : checkSecret(given.secret);
    const name = checkKeyName(given.name ?? "");
    const scopes = checkScopes(given.scopes ?? []);
    return this.#write(() => {
      const account = given.account === undefined ? this.root() : this.account(given.account);
      if (this.#keyRow(accessKeyId) !== undefined) throw fail("KEY_EXISTS", { accessKeyId });
      this.#database
        .prepare(
          "INSERT INTO keys (access_key_id, account, name, secret, scopes, created_at) VALUES (?, ?, ?, ?, ?, ?)",
        )
        .run(
          accessKeyId,
          account.id,
          name,
          this.#seal.close(secret, accessKeyId),
          JSON.stringify(scopes),
          this.#time(),
        );
      return { key: keyOf(this.#keyRow(accessKeyId) as KeyRow), secret };
    });
  }

  keys(): AccessKey[] {
    const rows = this.#database.prepare("SELECT * FROM keys ORDER BY rowid").all();
    return (rows as unknown as KeyRow[]).map(keyOf);
  }

  removeKey(accessKeyId: string): void {
    this.#write(() => {
      const { changes } = this.#database.prepare("DELETE FROM keys WHERE access_key_id = ?").run(accessKeyId);
      if (changes === 0) throw fail("KEY_NOT_FOUND", { accessKeyId: accessKeyId.slice(0, 128) });
    });
    this.#used.delete(accessKeyId);
  }

  credential(accessKeyId: string): Credential | undefined {
    if (!isAccessKeyId(accessKeyId)) return undefined;
    const version = this.#dataVersion.get()?.data_version;
    if (version !== this.#seenVersion) {
      this.#credentials.clear();
      this.#seenVersion = version;
    }
    const known = this.#credentials.get(accessKeyId);
    if (known !== undefined) return known;
    const credential = this.#storedCredential(accessKeyId) ?? this.#houseCredential(accessKeyId);
    if (credential !== undefined) this.#credentials.set(accessKeyId, credential);
    return credential;
  }

  houseKey(reference: string): Credential {
    const account = this.account(reference);
    const accessKeyId = `${housePrefix}${account.number}`;
    return { accessKeyId, secret: this.#seal.derive(`${accessKeyId} ${account.id}`), account, scopes: [] };
  }

  #houseCredential(accessKeyId: string): Credential | undefined {
    if (!accessKeyId.startsWith(housePrefix)) return undefined;
    const number = accessKeyId.slice(housePrefix.length);
    return this.#row(number)?.number === number ? this.houseKey(number) : undefined;
  }

  #storedCredential(accessKeyId: string): Credential | undefined {
    const row = this.#keyRow(accessKeyId);
    if (row === undefined) return undefined;
    const secret = this.#seal.open(row.secret, accessKeyId);
    if (secret === undefined) throw fail("SEAL_WRONG", { path: this.#keyFile, database: this.#path });
    const { scopes } = keyOf(row);
    return { accessKeyId, secret, account: this.account(row.account), scopes };
  }

  noteUse(accessKeyId: string): void {
    const now = this.#now();
    this.#used.set(accessKeyId, now);
    if (now - this.#usesWrittenAt >= lastUsedStepMs) this.#writeUses(now);
  }

  /** Not worth a wait for the disk or for another writer: what is lost is a time. */
  #writeUses(now: number): void {
    this.#usesWrittenAt = now;
    try {
      this.#database.exec("PRAGMA synchronous=NORMAL; PRAGMA busy_timeout=0; BEGIN IMMEDIATE");
      const update = this.#database.prepare("UPDATE keys SET last_used_at = ? WHERE access_key_id = ?");
      for (const [accessKeyId, at] of this.#used) update.run(new Date(at).toISOString(), accessKeyId);
      this.#database.exec("COMMIT");
      this.#used.clear();
    } catch {
      if (this.#database.isTransaction) this.#database.exec("ROLLBACK");
    } finally {
      this.#database.exec("PRAGMA synchronous=FULL; PRAGMA busy_timeout=10000");
    }
  }

  #makeRoot(): void {
    if (this.#database.prepare("SELECT 1 FROM accounts WHERE root = 1").get() !== undefined) return;
    this.#write(() => {
      if (this.#database.prepare("SELECT 1 FROM accounts WHERE root = 1").get() !== undefined) return;
      this.#insertAccount({ id: randomBytes(32).toString("hex"), name: "root", email: "" }, 1);
    });
  }

  #insertAccount({ id, name, email }: { id: string; name: string; email: string }, root: 0 | 1): Account {
    const taken = this.#database.prepare("SELECT 1 FROM accounts WHERE number = ?");
    let number = random("0123456789", 12);
    while (taken.get(number) !== undefined) number = random("0123456789", 12);
    this.#database
      .prepare("INSERT INTO accounts (id, number, name, email, root, created_at) VALUES (?, ?, ?, ?, ?, ?)")
      .run(id, number, name, email === "" ? null : email, root, this.#time());
    return accountOf(this.#row(id) as AccountRow);
  }

  #existing(reference: string): AccountRow {
    const row = this.#row(reference);
    if (row === undefined) throw fail("ACCOUNT_NOT_FOUND", { account: reference.slice(0, 128) });
    return row;
  }

  #row(reference: string): AccountRow | undefined {
    return this.#database
      .prepare("SELECT * FROM accounts WHERE id = ?1 OR number = ?1 OR name = ?1 OR email = ?1")
      .get(reference.normalize("NFC")) as AccountRow | undefined;
  }

  #keyRow(accessKeyId: string): KeyRow | undefined {
    return this.#database.prepare("SELECT * FROM keys WHERE access_key_id = ?").get(accessKeyId) as
      | KeyRow
      | undefined;
  }

  /** One change, durable when it returns. Own changes do not show in data_version: the cache goes here. */
  #write<T>(change: () => T): T {
    this.#database.exec("BEGIN IMMEDIATE");
    try {
      const result = change();
      this.#database.exec("COMMIT");
      return result;
    } catch (error) {
      if (this.#database.isTransaction) this.#database.exec("ROLLBACK");
      throw error;
    } finally {
      this.#credentials.clear();
    }
  }

  #time(): string {
    return new Date(this.#now()).toISOString();
  }

  [Symbol.dispose](): void {
    if (this.#used.size > 0) this.#writeUses(this.#now());
    this.#database.close();
  }
}

function random(alphabet: string, length: number): string {
  return Array.from({ length }, () => alphabet[randomInt(alphabet.length)]).join("");
}

function accountOf(row: AccountRow): Account {
  const { id, number, name, email, created_at: createdAt } = row;
  return { id, number, name, email: email ?? "", createdAt };
}

function keyOf(row: KeyRow): AccessKey {
  return {
    accessKeyId: row.access_key_id,
    account: row.account,
    name: row.name,
    scopes: JSON.parse(row.scopes) as AccessKey["scopes"],
    createdAt: row.created_at,
    lastUsedAt: row.last_used_at,
  };
}

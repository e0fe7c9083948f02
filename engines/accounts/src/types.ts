/** An owner of keys, buckets and objects, as S3 knows one. */
export interface Account {
  /** Canonical id: 64 hexadecimal digits. */
  id: string;
  /** Twelve digits, as in ARNs. */
  number: string;
  /** Unique; shown to others as the display name. */
  name: string;
  email: string;
  createdAt: string;
}

/** What a key may do with a bucket; a key without scopes may do all that its account may. */
export interface Scope {
  bucket: string;
  access: "read" | "write";
}

export interface AccessKey {
  accessKeyId: string;
  /** Canonical id. */
  account: string;
  name: string;
  /** Empty: not limited. "write" includes "read". */
  scopes: Scope[];
  createdAt: string;
  lastUsedAt: string | null;
}

/** What verifying a signature needs. */
export interface Credential {
  accessKeyId: string;
  secret: string;
  account: Account;
  scopes: readonly Scope[];
}

/**
 * `$SKEP_HOME/accounts.db`, shared by skepd (which writes) and storaged (which verifies); a change is
 * seen by the other at its next look-up. Secrets are sealed with AES-256-GCM under
 * `$SKEP_HOME/accounts.key`, so that the database alone gives none away.
 */
export interface Accounts extends Disposable {
  createAccount(account: { name: string; email?: string; id?: string }): Account;
  accounts(): Account[];
  /** By canonical id, number, name or email. */
  account(reference: string): Account;
  /** ACCOUNT_IN_USE while it has keys. */
  removeAccount(reference: string): Account;
  /** The first account, made when the database is; owns what the local user makes. */
  root(): Account;
  createKey(key: {
    account?: string;
    name?: string;
    scopes?: Scope[];
    accessKeyId?: string;
    secret?: string;
  }): { key: AccessKey; secret: string };
  keys(): AccessKey[];
  removeKey(accessKeyId: string): void;
  /** Cached; undefined where there is no such key. */
  credential(accessKeyId: string): Credential | undefined;
  /**
   * The house's own key for an account: in no list, derived from the sealing file wherever it is needed.
   * The control API presigns with it, so that whoever may drive skepd acts as the buckets' owners.
   */
  houseKey(account: string): Credential;
  /** A good signature was made with the key; written at most once a minute, at the latest when closed. */
  noteUse(accessKeyId: string): void;
}

import type { Account } from "@skep/accounts";

/** Who a statement is about. */
export interface Principals {
  /** `*`, also as `{"AWS": "*"}`: everyone, the anonymous included. */
  readonly everyone: boolean;
  readonly accounts: readonly AccountPattern[];
}

/** An account as policies name it. */
interface AccountPattern {
  /** Canonical id or number. */
  readonly account?: string;
  /** Of `…:user/NAME`: name, canonical id or number; an account here has itself as its only user. */
  readonly user?: string;
}

/** Reads a Principal or NotPrincipal element; undefined where it is none. */
export function parsePrincipals(element: unknown): Principals | undefined {
  if (element === "*") return { everyone: true, accounts: [] };
  if (typeof element !== "object" || element === null || Array.isArray(element)) return undefined;
  const accounts: AccountPattern[] = [];
  let everyone = false;
  const entries = Object.entries(element);
  if (entries.length === 0) return undefined;
  for (const [kind, value] of entries) {
    const names: unknown[] = Array.isArray(value) ? value : [value];
    if (names.length === 0) return undefined;
    for (const name of names) {
      if (typeof name !== "string" || name === "") return undefined;
      if (kind === "CanonicalUser") accounts.push({ account: name });
      else if (kind === "AWS") {
        if (name === "*") everyone = true;
        else {
          const account = parseAccount(name);
          if (account === undefined) return undefined;
          accounts.push(account);
        }
      } else if (kind !== "Service" && kind !== "Federated") return undefined;
      // Services and federated users do not exist here: such a principal is nobody.
    }
  }
  return { everyone, accounts };
}

/** `123456789012`, a canonical id, `arn:aws:iam::ACCOUNT:root`, `arn:aws:iam::[ACCOUNT]:user/[path/]NAME`. */
function parseAccount(name: string): AccountPattern | undefined {
  if (/^\d{12}$|^[0-9a-f]{64}$/.test(name)) return { account: name };
  const [arn, partition, service, region, account, ...rest] = name.split(":");
  const resource = rest.join(":");
  if (arn !== "arn" || partition !== "aws" || region !== "" || account === undefined) return undefined;
  if (service !== "iam" && service !== "sts") return undefined;
  if (resource === "root") return account === "" ? undefined : { account };
  const [, kind, path] = /^([a-z-]+)\/(.+)$/.exec(resource) ?? [];
  // A wildcard inside a principal would look as if it meant something.
  if (kind === undefined || path!.includes("*")) return undefined;
  // Roles, groups and sessions do not exist here.
  if (kind !== "user") return { account: "", user: "" };
  const user = path!.slice(path!.lastIndexOf("/") + 1);
  return account === "" ? { user } : { account, user };
}

export function namesCaller(principals: Principals, caller: Account | undefined): boolean {
  if (principals.everyone) return true;
  if (caller === undefined) return false;
  return principals.accounts.some(({ account, user }) => {
    if (account !== undefined && account !== caller.id && account !== caller.number) return false;
    return user === undefined || user === caller.name || user === caller.id || user === caller.number;
  });
}

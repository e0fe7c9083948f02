import { join } from "node:path";
import { type Accounts, openAccounts } from "@skep/accounts";
import type { Check, ObjectPage, Storage, StorageUp } from "@skep/api/schemas";
import { exists, objectsSocket, readVersionedJson, toSkepError } from "@skep/base";
import { authorityCertificate, authorityPath } from "@skep/certificates";
import type { OwnedBucket, StorageEngine } from "@skep/control";
import type { Deaths, Storaged } from "./storaged.ts";
import { servesVolumes } from "./volumes.ts";

/** What of `$SKEP_HOME/storage.json`, which storaged writes, matters while it does not run. */
interface StorageFile {
  version: 1;
  up: boolean;
  listen: string;
  http: boolean;
  domain: string | null;
  region: string;
  accessLog: boolean;
}

/** What storaged finds when it reads what it has stored. */
interface StoreCheck {
  complete: boolean;
  damaged: { what: string; object: string | null; why: string }[];
  orphans: number;
}

/** Whoever asks the doctor waits this long at most; what then is unread, he says. */
const quickCheckMs = 10_000;
const dayMs = 86_400_000;

/** Object storage as the control API sees it: storaged is started when something is asked of it. */
export class StorageService implements StorageEngine, AsyncDisposable {
  readonly #home: string;
  readonly #storaged: Storaged;
  #accounts: Accounts | undefined;

  constructor(home: string, storaged: Storaged) {
    this.#home = home;
    this.#storaged = storaged;
  }

  /** Starts it again where it was up or machines have volumes; keeps it where it runs. */
  async resume(): Promise<void> {
    const file = await this.#file();
    if (file?.up === true || (await servesVolumes(this.#home)) || (await this.#storaged.runs()))
      this.#storaged.keep();
  }

  async #file(): Promise<StorageFile | undefined> {
    const path = join(this.#home, "storage.json");
    return (await exists(path)) ? readVersionedJson<StorageFile>(path, 1) : undefined;
  }

  async status(): Promise<Storage> {
    if (await this.#storaged.runs()) return this.#storaged.call({ method: "GET", path: "/status" });
    const file = await this.#file();
    const tls = join(this.#home, "tls");
    return {
      running: false,
      pid: null,
      version: null,
      startedAt: null,
      endpoint: null,
      listen: file?.up === true ? file.listen : null,
      http: file?.http ?? false,
      domain: file?.domain ?? null,
      region: file?.region ?? "us-east-1",
      accessLog: file?.accessLog ?? true,
      socket: objectsSocket(this.#home),
      problem: this.#storaged.deaths?.problem ?? null,
      authority: await authorityCertificate(tls),
      authorityPath: authorityPath(tls),
    };
  }

  async up(request: StorageUp): Promise<Storage> {
    await this.#storaged.start();
    return this.#storaged.call({ method: "PUT", path: "/config", body: { ...request, up: true } });
  }

  /** It ends, unless guests' disks are with it. */
  async down(): Promise<Storage> {
    if (await this.#storaged.runs()) {
      await this.#storaged.call({ method: "PUT", path: "/config", body: { up: false } });
      const { served } = await this.#storaged.call<{ served: boolean }>({
        method: "GET",
        path: "/volumes-served",
      });
      if (served) return this.status();
    }
    await this.#storaged.stop();
    return this.status();
  }

  buckets(): Promise<OwnedBucket[]> {
    return this.#ask("GET", "/buckets");
  }

  bucket(name: string): Promise<OwnedBucket> {
    return this.#ask("GET", `/buckets/${encodeURIComponent(name)}`);
  }

  createBucket(name: string, owner: string): Promise<OwnedBucket> {
    return this.#ask("POST", "/buckets", { name, owner });
  }

  removeBucket(name: string): Promise<void> {
    return this.#ask("DELETE", `/buckets/${encodeURIComponent(name)}`);
  }

  objects(bucket: string, query: Record<string, string>): Promise<ObjectPage> {
    return this.#ask("GET", `/buckets/${encodeURIComponent(bucket)}/objects?${new URLSearchParams(query)}`);
  }

  removeObjects(bucket: string, keys: readonly string[]): Promise<void> {
    return this.#ask("POST", `/buckets/${encodeURIComponent(bucket)}/remove`, { keys });
  }

  async start(): Promise<void> {
    await this.#storaged.start();
  }

  async metrics(): Promise<string> {
    if (!(await this.#storaged.runs())) return "";
    return this.#storaged.call({ method: "GET", path: "/metrics" });
  }

  async #ask<T>(method: "GET" | "POST" | "DELETE", path: string, body?: unknown): Promise<T> {
    await this.#storaged.start();
    return this.#storaged.call<T>({ method, path, body });
  }

  /** Opened late: a home without object storage has no accounts. */
  accounts(): Accounts {
    this.#accounts ??= openAccounts({ home: this.#home });
    return this.#accounts;
  }

  async doctor(thorough: boolean): Promise<Check[]> {
    try {
      const status = await this.status();
      const checks = [endpointCheck(status, this.#storaged.deaths)];
      return status.running ? [...checks, await this.#dataCheck(thorough)] : checks;
    } catch (error) {
      const { message, hint } = toSkepError(error);
      return [{ name: "storage", status: "failed", detail: message, fix: hint ?? null }];
    }
  }

  async #dataCheck(thorough: boolean): Promise<Check> {
    const body = thorough ? {} : { forMs: quickCheckMs };
    const found = await this.#storaged.call<StoreCheck>({ method: "POST", path: "/check", body });
    const [first] = found.damaged;
    if (first !== undefined) {
      const more = found.damaged.length > 1 ? `; ${found.damaged.length - 1} more are damaged` : "";
      const fix =
        first.object === null
          ? "read storaged.log in the home; keep a copy of the home before you change anything"
          : `put it again from a copy, or remove it: skep object rm ${first.object}`;
      return {
        name: "objects",
        status: "failed",
        detail: `${first.what} is damaged: ${first.why}${more}`,
        fix,
      };
    }
    const orphans = found.orphans === 0 ? "" : `; ${found.orphans} left-over files will be swept`;
    if (found.complete) return { name: "objects", status: "ok", detail: `all is whole${orphans}`, fix: null };
    const detail = `what was read in ${quickCheckMs / 1000} s is whole; there is more${orphans}`;
    return { name: "objects", status: "ok", detail, fix: "to read all of it: skep doctor --thorough" };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#storaged[Symbol.asyncDispose]();
    this.#accounts?.[Symbol.dispose]();
  }
}

function endpointCheck(status: Storage, deaths: Deaths | undefined): Check {
  const check = (state: Check["status"], detail: string, fix: string | null = null): Check => {
    return { name: "storage", status: state, detail, fix };
  };
  const log = "read its log: storaged.log in the home";
  if (deaths?.problem) {
    return check("failed", `storaged cannot be started: ${deaths.problem.replaceAll(/\n\s*/g, " ")}`, log);
  }
  if (status.problem !== null) {
    return check(
      "failed",
      `the S3 endpoint does not listen: ${status.problem}`,
      "skep up --listen HOST:PORT",
    );
  }
  const where = status.endpoint === null ? "the S3 endpoint is down" : `S3 is served at ${status.endpoint}`;
  if (deaths !== undefined && Date.now() - Date.parse(deaths.lastAt) < dayMs) {
    const times = `${deaths.count} time${deaths.count === 1 ? "" : "s"}, the last at ${deaths.lastAt}`;
    return check("warning", `${where}; storaged has died ${times}, and was started again`, log);
  }
  const open = status.endpoint?.startsWith("http:") && !/\/\/(127\.|localhost|\[::1\])/.test(status.endpoint);
  if (open) return check("warning", `${where}, unencrypted and not only to this host`, "skep up --no-http");
  return check("ok", status.running ? where : `${where}, and storaged does not run`);
}

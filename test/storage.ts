/** An installation that serves S3, for the tests of object storage. */
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdir, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { Installation, type Result } from "./support.ts";

/** The distribution's, where it is: it knows no endpoint_url in a profile. */
const aws = existsSync("/usr/bin/aws") ? "/usr/bin/aws" : "aws";

export interface Key {
  id: string;
  secret: string;
}

export class Storage extends AsyncDisposableStack {
  readonly skep: Installation;
  endpoint = "";

  constructor(skep: Installation) {
    super();
    this.skep = this.use(skep);
  }

  static async make(...options: string[]): Promise<Storage> {
    const storage = new Storage(await Installation.make([]));
    const up = await storage.skep.skep(["up", "-q", "--listen", "127.0.0.1:0", ...options]);
    storage.endpoint = up.stdout.trim();
    return storage;
  }

  async json<T>(...args: string[]): Promise<T> {
    return JSON.parse((await this.skep.skep([...args, "--json"])).stdout) as T;
  }

  /** A file in the user's home. */
  async file(name: string, content: string | Uint8Array): Promise<string> {
    const path = join(this.user, name);
    await mkdir(dirname(path), { recursive: true });
    await writeFile(path, content);
    return path;
  }

  get user(): string {
    return this.skep.environment.HOME as string;
  }

  async key(...options: string[]): Promise<Key> {
    const { stdout } = await this.skep.skep(["key", "create", "-q", ...options]);
    const [id = "", secret = ""] = stdout.trim().split(" ");
    return { id, secret };
  }

  /** aws with a profile that `skep auth` has written; the CA is verified. */
  async aws(profile: string, ...args: string[]): Promise<Result> {
    return this.skep.command(aws, ["--profile", profile, "--endpoint-url", this.endpoint, ...args]);
  }

  /** The endpoint's answer to a request that nobody has signed. */
  async answers(): Promise<boolean> {
    const { stdout } = await this.skep.command("curl", [
      "-sk",
      "-o",
      "/dev/null",
      "-w",
      "%{http_code}",
      this.endpoint,
    ]);
    return stdout === "200";
  }
}

export const digest = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex");

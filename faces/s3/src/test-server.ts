import { mkdtemp, rm } from "node:fs/promises";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Account, type Accounts, openAccounts } from "@skep/accounts";
import { EmbeddedStore } from "@skep/objects";
import {
  createS3,
  type RequestRecord,
  type S3Face,
  type S3Options,
  serverOptions,
  serveS3,
} from "./index.ts";

/** Someone with a key, as clients need it. */
export interface TestUser {
  account: Account;
  accessKeyId: string;
  secret: string;
}

export interface TestServer extends AsyncDisposable {
  readonly url: string;
  readonly port: number;
  readonly directory: string;
  readonly store: EmbeddedStore;
  readonly accounts: Accounts;
  readonly server: Server;
  readonly face: S3Face;
  /** Every request that was answered. */
  readonly records: RequestRecord[];
  /** Whose buckets they are, and another. */
  readonly main: TestUser;
  readonly other: TestUser;
}

/** The face on a free port of loopback, with an embedded store in a temporary directory. */
export async function startTestServer(options: Partial<S3Options> = {}): Promise<TestServer> {
  const directory = await mkdtemp(join(tmpdir(), "skep-s3-"));
  const accounts = openAccounts({ home: directory });
  const store = await EmbeddedStore.open({ directory: join(directory, "objects") });
  const records: RequestRecord[] = [];
  const face = createS3({
    store,
    accounts,
    clock: { now: Date.now },
    log: { info() {}, warn() {}, error: (fields) => process.stderr.write(`${describe(fields)}\n`) },
    region: "us-east-1",
    onRequest: (record) => records.push(record),
    ...options,
  });
  const server = createServer(serverOptions);
  serveS3(server, face);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}`,
    port,
    directory,
    store,
    accounts,
    server,
    face,
    records,
    main: testUser(accounts, "main"),
    other: testUser(accounts, "other"),
    async [Symbol.asyncDispose]() {
      server.close();
      server.closeAllConnections();
      await face.drain();
      await store[Symbol.asyncDispose]();
      accounts[Symbol.dispose]();
      await rm(directory, { recursive: true });
    },
  };
}

function testUser(accounts: Accounts, name: string): TestUser {
  const account = accounts.createAccount({ name, email: `${name}@example.org` });
  const { key, secret } = accounts.createKey({ account: account.id });
  return { account, accessKeyId: key.accessKeyId, secret };
}

function describe(fields: object): string {
  const { err, ...record } = fields as { err?: unknown };
  return `${JSON.stringify(record)} ${err instanceof Error ? err.stack : String(err)}`;
}

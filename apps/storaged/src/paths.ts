import { join } from "node:path";

/** What storaged has in a home; the store's own files are the business of @skep/objects. */
export const storagePaths = (home: string) => ({
  config: join(home, "storage.json"),
  store: join(home, "objects"),
  log: join(home, "storaged.log"),
  accessLog: join(home, "storaged-access.log"),
  tls: join(home, "tls"),
});

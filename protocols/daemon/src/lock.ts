import { join } from "node:path";
import { readFileIfThere } from "@skep/base";
import { lockFile } from "@skep/base/lock";
import { fail } from "./errors.ts";

/** Which daemon of a home, and the file in the runtime directory where it says who it is. */
export interface Role {
  program: string;
  infoFile: string;
}

/** Takes this role in the home for this process; it ends with the process, however that ends. DAEMON_RUNNING. */
export async function lockHome(home: string, { program, infoFile }: Role): Promise<Disposable> {
  const lock = lockFile(join(home, `${program}.lock`));
  if (lock === undefined)
    throw fail("DAEMON_RUNNING", { program, home, holder: await describeHolder(infoFile) });
  return lock;
}

async function describeHolder(infoFile: string): Promise<string> {
  try {
    const info = JSON.parse((await readFileIfThere(infoFile)) ?? "") as { pid?: unknown; socket?: unknown };
    return `: pid ${info.pid}, socket ${info.socket}`;
  } catch {
    return ": it is just starting, or was started under another name of this directory";
  }
}

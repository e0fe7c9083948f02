import { createHash } from "node:crypto";
import { realpathSync } from "node:fs";
import { homedir, tmpdir, userInfo } from "node:os";
import { basename, dirname, isAbsolute, join, resolve } from "node:path";

type Environment = Record<string, string | undefined>;

/** `$SKEP_HOME`: where everything lasting is kept. Links are followed: one home has one name. */
export function skepHome(environment: Environment = process.env): string {
  return canonical(namedHome(environment));
}

/** As realpath(3) would say it of a path whose end need not be there yet. */
function canonical(path: string): string {
  try {
    return realpathSync(path);
  } catch {
    const parent = dirname(path);
    return parent === path ? path : join(canonical(parent), basename(path));
  }
}

function namedHome(environment: Environment): string {
  if (environment.SKEP_HOME) return resolve(environment.SKEP_HOME);
  if (userInfo().uid === 0) return "/var/lib/skep";
  const data = environment.XDG_DATA_HOME;
  return data !== undefined && isAbsolute(data) ? join(data, "skep") : join(homedir(), ".local/share/skep");
}

/** In the names of what homes have in places that they share. */
export function homeMark(home: string): string {
  return createHash("sha256").update(home).digest("hex").slice(0, 12);
}

/** What follows a runtime directory in the longest path of a socket. */
const longestSocket = "/12345678/qemu/control.sock";
const socketPathBytes = 103;

/**
 * The directory that holds sockets and pidfiles of one home; short, for a Unix socket path holds 103
 * bytes. A plain user's is in the home where it fits: machines outlive a session, and `$XDG_RUNTIME_DIR`
 * does not; nor is it the same in a cron job.
 */
export function runtimeDirectory(home: string, environment: Environment = process.env): string {
  const short = homeMark(home).slice(0, 8);
  if (environment.SKEP_RUNTIME_DIR) return join(resolve(environment.SKEP_RUNTIME_DIR), short);
  const uid = userInfo().uid;
  if (uid === 0) return `/run/skep/${short}`;
  const inside = join(home, "run");
  if (Buffer.byteLength(inside + longestSocket) <= socketPathBytes) return inside;
  return join(process.platform === "darwin" ? "/tmp" : tmpdir(), `skep-${uid}`, short);
}

/** The control API's Unix socket. */
export function controlSocket(home: string, environment: Environment = process.env): string {
  return join(runtimeDirectory(home, environment), "skepd.sock");
}

/** Who runs for this home: pid, version, listening addresses. */
export function daemonFile(home: string, environment: Environment = process.env): string {
  return join(runtimeDirectory(home, environment), "skepd.json");
}

/** The socket on which skepd steers storaged. */
export function storageSocket(home: string, environment: Environment = process.env): string {
  return join(runtimeDirectory(home, environment), "storaged.sock");
}

/** storaged's S3 endpoint for this host: HTTP, open to the home's user alone. */
export function objectsSocket(home: string, environment: Environment = process.env): string {
  return join(runtimeDirectory(home, environment), "s3.sock");
}

/** Which storaged runs for this home. */
export function storageFile(home: string, environment: Environment = process.env): string {
  return join(runtimeDirectory(home, environment), "storaged.json");
}

import { createHash } from "node:crypto";
import { homedir, tmpdir, userInfo } from "node:os";
import { isAbsolute, join, resolve } from "node:path";

type Environment = Record<string, string | undefined>;

/** `$SKEP_HOME`: where everything lasting is kept. */
export function skepHome(environment: Environment = process.env): string {
  if (environment.SKEP_HOME) return resolve(environment.SKEP_HOME);
  if (userInfo().uid === 0) return "/var/lib/skep";
  const data = environment.XDG_DATA_HOME;
  return data !== undefined && isAbsolute(data) ? join(data, "skep") : join(homedir(), ".local/share/skep");
}

/**
 * The short directory that holds sockets and pidfiles of one home (a Unix socket path holds 104
 * characters). It dies with the host's boot.
 */
export function runtimeDirectory(home: string, environment: Environment = process.env): string {
  const short = createHash("sha256").update(home).digest("hex").slice(0, 8);
  if (environment.SKEP_RUNTIME_DIR) return join(resolve(environment.SKEP_RUNTIME_DIR), short);
  const uid = userInfo().uid;
  if (uid === 0) return `/run/skep/${short}`;
  const runtime = environment.XDG_RUNTIME_DIR;
  if (runtime !== undefined && isAbsolute(runtime) && runtime.length < 40)
    return join(runtime, "skep", short);
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

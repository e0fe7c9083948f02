import { connect, type Socket } from "node:net";

/**
 * Connects to a Unix socket. Rejects with the system's error, the signal's reason, or a plain Error
 * after `timeoutMs` (a listener whose backlog is full lets a client wait forever).
 */
export function connectUnix(path: string, timeoutMs: number, signal?: AbortSignal): Promise<Socket> {
  signal?.throwIfAborted();
  return new Promise((resolve, reject) => {
    const socket = connect({ path });
    const settle = (error?: unknown) => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", onAbort);
      socket.removeListener("error", settle);
      socket.removeListener("connect", onConnect);
      if (error === undefined) return resolve(socket);
      socket.on("error", () => {}); // it is given up; what comes later interests nobody
      socket.destroy();
      reject(error as Error);
    };
    const onConnect = () => settle();
    const onAbort = () => settle(signal?.reason ?? new Error("aborted"));
    const timer = setTimeout(() => settle(new Error(`no connection within ${timeoutMs} ms`)), timeoutMs);
    socket.once("connect", onConnect);
    socket.once("error", settle);
    signal?.addEventListener("abort", onAbort, { once: true });
  });
}

/** Why a connection failed, for a person. */
export function reasonOf(error: unknown): string {
  const code = (error as NodeJS.ErrnoException | undefined)?.code;
  if (code === "ENOENT") return "there is no such socket";
  if (code === "ECONNREFUSED") return "nobody listens on it";
  if (code === "EACCES") return "permission denied";
  return error instanceof Error ? error.message : String(error);
}

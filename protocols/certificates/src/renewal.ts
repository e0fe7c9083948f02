import type { Server } from "node:tls";
import type { ServerIdentity } from "./identity.ts";

const day = 86_400_000;

/**
 * Asks once a day for the server's identity and gives it what it gets: new connections see a certificate
 * that was renewed, or that covers an address which the host has got meanwhile, without a restart.
 */
export function keepRenewed(
  server: Server,
  identity: () => Promise<ServerIdentity>,
  onError: (error: unknown) => void,
  everyMs = day,
): Disposable {
  const renew = async () => {
    try {
      const { certificate: cert, key } = await identity();
      server.setSecureContext({ cert, key, minVersion: "TLSv1.2" });
    } catch (error) {
      onError(error);
    }
  };
  const timer = setInterval(() => void renew(), everyMs);
  timer.unref();
  return { [Symbol.dispose]: () => clearInterval(timer) };
}

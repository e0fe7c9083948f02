import { connect, type Socket } from "node:net";

/**
 * Connects a connection that was accepted in a guest's stead with the guest, each side read as fast as the other
 * takes it, and closed by halves. Resolves when the guest's side is connected, or cannot be; never rejects.
 */
export async function pipeTo(client: Socket, to: { host: string; port: number }): Promise<void> {
  const guest = connect({ ...to, allowHalfOpen: true, noDelay: true });
  endWith(client, guest);
  endWith(guest, client);
  client.setNoDelay(true);
  client.pipe(guest);
  guest.pipe(client);
  await new Promise<void>((resolve) => guest.once("connect", resolve).once("close", () => resolve()));
}

/** What ends one side early ends the other in the same way. */
function endWith(one: Socket, other: Socket): void {
  one.on("error", () => other.resetAndDestroy());
  one.once("close", () => {
    if (!other.writableEnded) other.destroy();
  });
}

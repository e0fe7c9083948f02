import { connect, type Socket } from "node:net";

/**
 * Connects a connection that was accepted in a guest's stead with the guest, each side read as fast as the other
 * takes it, and closed by halves. Resolves when both are closed; never rejects.
 */
export async function pipeTo(client: Socket, to: { host: string; port: number }): Promise<void> {
  const guest = connect({ ...to, allowHalfOpen: true, noDelay: true });
  const closed = [passOn(client, guest), passOn(guest, client)];
  client.setNoDelay(true);
  client.pipe(guest);
  guest.pipe(client);
  await Promise.all(closed);
}

/** What ends one side early ends the other in the same way. Resolves when `from` is closed. */
function passOn(from: Socket, to: Socket): Promise<void> {
  from.on("error", () => to.resetAndDestroy());
  return new Promise((resolve) => {
    const onClose = () => {
      if (!to.writableEnded) to.destroy();
      resolve();
    };
    if (from.destroyed) onClose();
    else from.once("close", onClose);
  });
}

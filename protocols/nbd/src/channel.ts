import type { Socket } from "node:net";
import { ConnectionEnded } from "./errors.ts";

/** A socket of which nothing is read that was not asked for: for the handshake, where one side waits for the other. */
export class Channel {
  readonly socket: Socket;

  constructor(socket: Socket) {
    this.socket = socket;
    socket.pause();
  }

  /** The next bytes. Rejects when there are none any more, with the socket's error if that is why. */
  receive(): Promise<Buffer> {
    const { socket } = this;
    return new Promise((resolve, reject) => {
      const settle = (error: Error | undefined, bytes?: Buffer) => {
        socket.pause();
        socket.off("data", onData).off("end", onEnd).off("close", onEnd).off("error", settle);
        if (bytes === undefined) reject(error);
        else resolve(bytes);
      };
      const onData = (bytes: Buffer) => settle(undefined, Buffer.from(bytes));
      const onEnd = () => settle(new ConnectionEnded("it ended in the middle of the handshake"));
      if (socket.destroyed || socket.readableEnded) return onEnd();
      socket.on("data", onData).on("end", onEnd).on("close", onEnd).on("error", settle);
      socket.resume();
    });
  }

  /** Settles when the kernel has taken the bytes. */
  send(bytes: Uint8Array): Promise<void> {
    return new Promise((resolve, reject) => {
      this.socket.write(bytes, (error) => (error ? reject(error) : resolve()));
    });
  }
}

import type { Readable, Writable } from "node:stream";
import type { WebSocket } from "@fastify/websocket";

const pingMs = 60_000;
/** What waits for a slow sink before the peer is made to wait. */
const bufferedLimit = 1024 * 1024;

/**
 * Keeps a socket honest: a peer that is gone without a word is noticed by pings, also while the
 * socket is paused (then by the write that fails).
 */
export function guard(socket: WebSocket): void {
  let answered = true;
  const timer = setInterval(() => {
    if (!answered && !socket.isPaused) {
      socket.terminate();
      return;
    }
    answered = false;
    socket.ping();
  }, pingMs);
  socket.on("pong", () => {
    answered = true;
  });
  socket.on("error", () => socket.terminate());
  socket.once("close", () => clearInterval(timer));
}

/** Resolves when the frame has been handed to the kernel, or the socket is gone. */
export function sendFrame(socket: WebSocket, data: Uint8Array | string): Promise<void> {
  return new Promise((resolve) => {
    if (socket.readyState !== socket.OPEN) resolve();
    else socket.send(data, { binary: typeof data !== "string" }, () => resolve());
  });
}

/** Sends all of a stream, one frame in flight: a slow peer makes the stream wait. */
export async function pump(
  source: Readable,
  socket: WebSocket,
  frame: (piece: Uint8Array) => Uint8Array = (piece) => piece,
): Promise<void> {
  for await (const piece of source) {
    if (socket.readyState !== socket.OPEN) return;
    await sendFrame(socket, frame(piece as Uint8Array));
  }
}

/** Writes what came from the socket; a slow sink makes the socket wait. */
export function feed(socket: WebSocket, sink: Writable, data: Uint8Array, written?: () => void): void {
  if (sink.destroyed || sink.writableEnded) return;
  sink.write(data, () => written?.());
  if (sink.writableLength < bufferedLimit || socket.isPaused) return;
  socket.pause();
  const resume = () => {
    sink.off("drain", resume);
    sink.off("close", resume);
    socket.resume();
  };
  sink.on("drain", resume).on("close", resume);
}

/** A frame's bytes, however the library hands them over. */
export function bytesOf(data: Buffer | ArrayBuffer | Buffer[]): Buffer {
  if (Array.isArray(data)) return Buffer.concat(data);
  return Buffer.isBuffer(data) ? data : Buffer.from(data);
}

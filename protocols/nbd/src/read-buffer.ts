import { Socket, type SocketConstructorOpts } from "node:net";

/**
 * Has a socket that was accepted (with `pauseOnConnect`) read into `buffer`, which all sockets of a thread may
 * share, and emit views of it as its data: whoever wants to keep bytes copies them. Otherwise Node allocates
 * 64 KiB for every read, and copies what did not fill them, which costs more than all else that a server does.
 * Node has this for clients (`onread`); for accepted sockets only their handle leads there, which is no public
 * interface, so without one the socket is used as it is.
 */
export function readInto(accepted: Socket, buffer: Buffer): Socket {
  const inner = accepted as unknown as { _handle?: object | null };
  const handle = inner._handle;
  if (handle === undefined || handle === null) return accepted;
  inner._handle = null;
  const options: SocketConstructorOpts = {
    handle: handle as never,
    allowHalfOpen: true,
    onread: {
      buffer,
      callback(count) {
        socket.emit("data", buffer.subarray(0, count));
        return true;
      },
    },
  };
  const socket = new Socket(options);
  return socket;
}

import { Readable } from "node:stream";
import type { FastifyReply } from "fastify";

const heartbeatMs = 60_000;
const bufferedLimit = 4 * 1024 * 1024;

interface Stream {
  send(message: { id: number; event: string; data: unknown }): void;
  end(): void;
}

/**
 * Answers with an event stream (WHATWG HTML, "Server-sent events"). `subscribe` gets the stream and
 * returns how to unsubscribe. A reader too slow for 4 MiB is cut off; it resumes with Last-Event-ID.
 */
export function eventStream(reply: FastifyReply, subscribe: (stream: Stream) => () => void): FastifyReply {
  const body = new Readable({ read() {} });
  const push = (text: string) => {
    if (body.destroyed || body.readableEnded) return;
    if (body.readableLength > bufferedLimit) body.destroy(new Error("the reader is too slow"));
    else body.push(text);
  };
  push(": skep\n\n");
  const heartbeat = setInterval(push, heartbeatMs, ":\n\n");
  let ended = false;
  let unsubscribe = () => {};
  body.once("close", () => {
    clearInterval(heartbeat);
    unsubscribe();
  });
  unsubscribe = subscribe({
    send({ id, event, data }) {
      if (!ended) push(`id: ${id}\nevent: ${event}\ndata: ${JSON.stringify(data)}\n\n`);
    },
    end() {
      if (ended) return;
      ended = true;
      body.push(null);
    },
  });
  return reply.type("text/event-stream").header("cache-control", "no-store").send(body);
}

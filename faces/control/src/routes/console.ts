import type { IncomingMessage } from "node:http";
import { Readable } from "node:stream";
import type { ConsoleAttachment } from "@skep/machines";
import { Type } from "typebox";
import { type App, answers, type Context, nameParams, rawAnswer } from "../context.ts";
import { fail } from "../errors.ts";
import { bytesOf, feed, guard, pump, sendFrame } from "../sockets.ts";

const tags = ["machines"];
const strict = { additionalProperties: false };
const socketAnswer = answers(101, Type.Null());

/** Plain requests to a WebSocket's address are told so. */
export function refusePlain(path: string): never {
  throw fail("UPGRADE_REQUIRED", { path });
}

export function consoleRoutes(app: App, context: Context): void {
  consoleSocket(app, context);
  tunnelSocket(app, context);
  readRoutes(app, context);
}

function consoleSocket(app: App, { machines, states }: Context): void {
  const attachments = new WeakMap<IncomingMessage, ConsoleAttachment>();
  app.route({
    method: "GET",
    url: "/v1/machines/:name/console",
    schema: {
      operationId: "machineConsole",
      tags,
      description:
        "WebSocket. Binary frames are the serial console's bytes, both ways. Text frames of the server " +
        'are JSON: {"writable": boolean} first, {"end": reason} last.',
      params: nameParams,
      querystring: Type.Object(
        {
          mode: Type.Optional(
            Type.Union([Type.Literal("watch"), Type.Literal("write"), Type.Literal("take")], {
              description: "default watch; write fails while another writes, take takes over",
            }),
          ),
          replayBytes: Type.Optional(Type.Integer({ minimum: 0, maximum: 16_777_216 })),
        },
        strict,
      ),
      response: socketAnswer,
    },
    // Attached before the upgrade, so that a refusal is an HTTP answer with its reason.
    preHandler: async (request) => {
      if (!request.ws) refusePlain(request.url);
      const { mode = "watch", replayBytes } = request.query;
      await states.wake(request.params.name);
      const attachment = await machines.console(request.params.name, {
        mode,
        ...(replayBytes === undefined ? {} : { replayBytes }),
      });
      request.raw.socket.once("close", () => attachment.close());
      if (request.raw.socket.destroyed) attachment.close();
      attachments.set(request.raw, attachment);
    },
    handler: (request) => refusePlain(request.url),
    wsHandler: async (socket, request) => {
      const attachment = attachments.get(request.raw);
      if (attachment === undefined) return socket.terminate();
      guard(socket);
      let reason = "the console has ended";
      const ended = new Promise<void>((resolve) => {
        attachment.onEnd((why) => {
          reason = why;
          resolve();
        });
        socket.once("close", () => resolve());
      });
      socket.on("message", (data, isBinary) => {
        if (isBinary && attachment.writable) attachment.write(bytesOf(data));
      });
      try {
        await sendFrame(socket, JSON.stringify({ writable: attachment.writable }));
        const pumped = pump(attachment.output, socket);
        await Promise.race([pumped, ended]);
        // What was printed before the end still goes out, unless the reader is stuck.
        await Promise.race([pumped, new Promise((resolve) => setTimeout(resolve, 1000))]);
      } catch (error) {
        request.log.debug({ err: error }, "console failed");
        reason = "the connection to the console was lost";
      }
      await sendFrame(socket, JSON.stringify({ end: reason }));
      attachment.close();
      socket.close(1000);
    },
  });
}

function tunnelSocket(app: App, { machines, states }: Context): void {
  type Tunnel = Awaited<ReturnType<typeof machines.tunnel>>;
  const tunnels = new WeakMap<IncomingMessage, Tunnel>();
  app.route({
    method: "GET",
    url: "/v1/machines/:name/tunnel",
    schema: {
      operationId: "machineTunnel",
      tags,
      description: "WebSocket. Binary frames are the bytes of a connection to a TCP port of the guest.",
      params: nameParams,
      querystring: Type.Object({ port: Type.Integer({ minimum: 1, maximum: 65535 }) }, strict),
      response: socketAnswer,
    },
    preHandler: async (request) => {
      if (!request.ws) refusePlain(request.url);
      await states.wake(request.params.name);
      const tunnel = await machines.tunnel(request.params.name, request.query.port);
      tunnel.on("error", (error) => request.log.debug({ err: error }, "tunnel failed"));
      request.raw.socket.once("close", () => tunnel.destroy());
      if (request.raw.socket.destroyed) tunnel.destroy();
      tunnels.set(request.raw, tunnel);
    },
    handler: (request) => refusePlain(request.url),
    wsHandler: async (socket, request) => {
      const tunnel = tunnels.get(request.raw);
      if (tunnel === undefined) return socket.terminate();
      guard(socket);
      socket.on("message", (data, isBinary) => {
        if (isBinary) feed(socket, tunnel, bytesOf(data));
      });
      try {
        await pump(tunnel, socket);
        socket.close(1000);
      } catch {
        socket.close(1011, "the guest's connection was lost");
      }
    },
  });
}

function readRoutes(app: App, { machines }: Context): void {
  app.get(
    "/v1/machines/:name/logs",
    {
      schema: {
        operationId: "machineLogs",
        tags,
        description: "The kept log as it is, then with `follow` what is added, until the client leaves.",
        params: nameParams,
        querystring: Type.Object(
          {
            source: Type.Optional(Type.Union([Type.Literal("console"), Type.Literal("qemu")])),
            sinceMs: Type.Optional(Type.Number({ minimum: 0, description: "milliseconds since the epoch" })),
            tailLines: Type.Optional(Type.Integer({ minimum: 0, maximum: 10_000_000 })),
            follow: Type.Optional(Type.Boolean()),
          },
          strict,
        ),
        response: rawAnswer("application/octet-stream", "the log's bytes"),
      },
    },
    (request, reply) => {
      const { name } = request.params;
      machines.get(name);
      const controller = new AbortController();
      const { source = "console", ...rest } = request.query;
      const lines = machines.logs(name, { source, ...rest, signal: controller.signal });
      const body = Readable.from(endQuietly(lines, controller.signal), { objectMode: false });
      body.once("close", () => controller.abort());
      // A client that leaves must end the engine's wait; the stream alone would wait for its next piece.
      request.raw.socket.once("close", () => controller.abort());
      reply.type("application/octet-stream").send(body);
      // A log that is followed may be silent for long: the client shall know at once that it is read.
      setImmediate(() => {
        if (!reply.raw.headersSent && !reply.raw.destroyed) reply.raw.flushHeaders();
      });
      return reply;
    },
  );
  app.get(
    "/v1/machines/:name/screenshot",
    {
      schema: {
        operationId: "machineScreenshot",
        tags,
        params: nameParams,
        response: rawAnswer("image/png", "the screen as PNG"),
      },
    },
    async ({ params }, reply) => reply.type("image/png").send(await machines.screenshot(params.name)),
  );
  app.get(
    "/v1/ssh-config",
    {
      schema: {
        operationId: "sshConfig",
        tags,
        description: "A file for ssh's Include: hosts `NAME.skep`.",
        response: rawAnswer("text/plain", "ssh_config"),
      },
    },
    async (_request, reply) => reply.type("text/plain; charset=utf-8").send(await machines.sshConfig()),
  );
}

/** An aborted read is the wish of the reader, not a failure. */
async function* endQuietly(source: AsyncIterable<Uint8Array>, signal: AbortSignal) {
  try {
    yield* source;
  } catch (error) {
    if (!signal.aborted) throw error;
  }
}

import type { WebSocket } from "@fastify/websocket";
import { ExecControl, ExecRequest } from "@skep/api/schemas";
import { toSkepError } from "@skep/base";
import type { ExecSession } from "@skep/machines";
import { Type } from "typebox";
import { Compile } from "typebox/compile";
import { type App, answers, type Context, nameParams } from "../context.ts";
import { fail } from "../errors.ts";
import { bytesOf, feed, guard, pump, sendFrame } from "../sockets.ts";
import { parseFrame } from "../validation.ts";
import { refusePlain } from "./console.ts";

const firstFrameMs = 30_000;
const channels = { stdin: 0, stdout: 1, stderr: 2 } as const;

/**
 * Channels as in Kubernetes' remote-command protocol: the first byte of a binary frame says which
 * stream it belongs to. https://kubernetes.io/docs/reference/ (WebSocket streaming, v4 channels 0–2)
 */
export function execRoutes(app: App, { machines, states }: Context): void {
  app.route({
    method: "GET",
    url: "/v1/machines/:name/exec",
    schema: {
      operationId: "machineExec",
      tags: ["machines"],
      description:
        "WebSocket. The client's first text frame is an ExecRequest, later ones are ExecControl. The first " +
        "byte of a binary frame is its channel: 0 stdin, 1 stdout, 2 stderr. Text frames of the server: " +
        '{"started": {"transport"}}, {"stdinTaken": bytes} if asked for, then {"exit": status} or ' +
        '{"error": {code, message, hint}}.',
      params: nameParams,
      response: answers(101, Type.Null()),
    },
    preHandler: async (request) => {
      if (!request.ws) refusePlain(request.url);
      machines.get(request.params.name);
    },
    handler: (request) => refusePlain(request.url),
    wsHandler: async (socket, request) => {
      guard(socket);
      try {
        // A client that leaves waits for no guest that is still booting.
        const gone = new AbortController();
        socket.once("close", () => gone.abort());
        const { name } = request.params;
        const exit = await runSession(socket, async (first) => {
          await states.wake(name);
          return await machines.exec(name, first, gone.signal);
        });
        if (exit !== undefined) await sendFrame(socket, JSON.stringify({ exit }));
        socket.resume(); // a paused one would never see the close answered
        socket.close(1000);
      } catch (error) {
        const failure = toSkepError(error);
        if (failure.code === "INTERNAL") request.log.error({ err: error }, "exec failed");
        await sendFrame(socket, JSON.stringify({ error: failure.toJSON() }));
        socket.resume();
        socket.close(failure.status < 500 ? 1008 : 1011);
      }
    },
  });
}

/** Runs one command over the socket; undefined when the client left before its end. */
async function runSession(
  socket: WebSocket,
  exec: (request: ExecRequest) => Promise<ExecSession>,
): Promise<number | undefined> {
  const inbox = inboxOf(socket);
  const request = parseFrame<ExecRequest>(Compile(ExecRequest))(await firstFrame(socket, inbox));
  const { stdinTaken: tellTaken, ...command } = request;
  const session = await exec(command);
  session.exit.catch(() => {}); // it is looked at below, unless the client has left
  try {
    if (socket.readyState !== socket.OPEN) return undefined;
    const gone = new Promise<undefined>((resolve) => {
      socket.once("close", () => resolve(undefined));
    });
    session.stdin.on("error", () => {}); // a command that does not read its input is no failure
    await sendFrame(socket, JSON.stringify({ started: { transport: session.transport } }));
    const broken = takeFrames(socket, inbox, session, tellTaken === true);
    const output = Promise.all([
      pump(session.stdout, socket, onChannel(channels.stdout)),
      pump(session.stderr, socket, onChannel(channels.stderr)),
    ]);
    const ended = output.then(() => session.exit);
    ended.catch(() => {}); // it may lose the race below
    return await Promise.race([ended, session.exit.then(() => ended), gone, broken]);
  } finally {
    session.close();
  }
}

interface Frame {
  bytes: Buffer;
  isBinary: boolean;
}

/**
 * The client's frames in order. What comes while nobody takes it is kept: one read from the network
 * may hold several frames, which arrive even after `pause`.
 */
function inboxOf(socket: WebSocket) {
  const kept: Frame[] = [];
  let taker: ((frame: Frame) => void) | undefined;
  socket.on("message", (data, isBinary) => {
    const frame = { bytes: bytesOf(data), isBinary };
    if (taker === undefined) kept.push(frame);
    else taker(frame);
  });
  return {
    takeOne(take: (frame: Frame) => void) {
      taker = (frame) => {
        taker = undefined;
        socket.pause(); // what follows waits until there is a session to take it
        take(frame);
      };
    },
    takeAll(take: (frame: Frame) => void) {
      taker = take;
      for (const frame of kept.splice(0)) take(frame);
      socket.resume();
    },
  };
}

type Inbox = ReturnType<typeof inboxOf>;

function firstFrame(socket: WebSocket, inbox: Inbox): Promise<string> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(
      () => reject(fail("FRAME_INVALID", { why: "no request came within 30 s" })),
      firstFrameMs,
    );
    socket.once("close", () => {
      clearTimeout(timer);
      reject(fail("FRAME_INVALID", { why: "the client left before its request" }));
    });
    inbox.takeOne(({ bytes, isBinary }) => {
      clearTimeout(timer);
      if (isBinary) reject(fail("FRAME_INVALID", { why: "the first frame must be a text frame" }));
      else resolve(bytes.toString("utf8"));
    });
  });
}

/** Hands the client's frames to the session; rejects at the first bad one. */
function takeFrames(
  socket: WebSocket,
  inbox: Inbox,
  session: ExecSession,
  tellTaken: boolean,
): Promise<never> {
  const parse = parseFrame<ExecControl>(Compile(ExecControl));
  let taken = 0;
  return new Promise((_, reject) => {
    inbox.takeAll(({ bytes, isBinary }) => {
      try {
        if (isBinary) {
          if (bytes[0] !== channels.stdin)
            throw fail("FRAME_INVALID", { why: "only channel 0 goes to the guest" });
          const input = bytes.subarray(1);
          feed(socket, session.stdin, input, () => {
            taken += input.length;
            if (tellTaken) void sendFrame(socket, JSON.stringify({ stdinTaken: taken }));
          });
          return;
        }
        const control = parse(bytes.toString("utf8"));
        if ("resize" in control) session.resize(control.resize.columns, control.resize.rows);
        else if ("signal" in control) session.signal(control.signal);
        else session.stdin.end();
      } catch (error) {
        reject(error);
      }
    });
  });
}

function onChannel(channel: number) {
  return (piece: Uint8Array): Uint8Array => {
    const frame = new Uint8Array(piece.length + 1);
    frame[0] = channel;
    frame.set(piece, 1);
    return frame;
  };
}

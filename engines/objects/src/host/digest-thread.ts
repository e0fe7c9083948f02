import { type MessagePort, parentPort } from "node:worker_threads";
import { RunningDigest } from "../blobs/digest.ts";
import type { AnswerMessage, DigestRequest, Reply, Request } from "./messages.ts";

/** The thread that digests blobs, so that receiving and sending go on meanwhile. */
const port = parentPort as MessagePort;
const running = new Map<number, RunningDigest>();

port.on("message", (request: Request) => {
  if ("close" in request) port.close();
  else if ("digests" in request) port.postMessage({ digested: request.digests.map(answer) } satisfies Reply);
});

function answer({ id, step }: DigestRequest): AnswerMessage {
  const digest = running.get(id) ?? new RunningDigest();
  if (step instanceof Uint8Array) {
    digest.update(step);
    running.set(id, digest);
    return { value: undefined };
  }
  running.delete(id);
  return { value: step === "finish" ? digest.finish() : undefined };
}

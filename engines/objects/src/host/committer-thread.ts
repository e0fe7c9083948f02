import { randomBytes } from "node:crypto";
import { type MessagePort, parentPort, receiveMessageOnPort, workerData } from "node:worker_threads";
import { toSkepError } from "@skep/base";
import type { Operation } from "../commit/operations.ts";
import { disk } from "../disk.ts";
import { storePaths } from "../paths.ts";
import { errorMessage, type Reply, type Request, type ThreadData } from "./messages.ts";
import { indexFile, type OpenedCommitter, openCommitter } from "./store-files.ts";

/** The thread of the one writer: takes what waits as one batch, answers, cleans when it is due. */
const port = parentPort as MessagePort;
const { directory, options } = workerData as ThreadData;
const reply = (message: Reply) => port.postMessage(message);

/** A batch holds no more, so that the first of it does not wait too long for the last. */
const batchOperations = 256;

function open(): OpenedCommitter | undefined {
  const paths = storePaths(directory);
  try {
    return openCommitter(
      {
        files: disk,
        paths,
        source: indexFile(paths.index, options.synchronous),
        random: randomBytes,
        log: (message) => reply({ log: message }),
      },
      options,
    );
  } catch (error) {
    reply({ failed: errorMessage(toSkepError(error)) });
    return undefined;
  }
}

const opened = open();
if (opened !== undefined) serve(opened);

function serve({ committer, recovery, rebuilt, close }: OpenedCommitter): void {
  const waiting: Operation[] = [];
  let isClosing = false;
  let isCleaning = false;

  const take = (request: Request) => {
    if ("operations" in request) waiting.push(...request.operations);
    else if ("close" in request) isClosing = true;
  };

  const work = () => {
    for (;;) {
      // What has come while the last batch was written is the next one.
      for (let more = receiveMessageOnPort(port); more !== undefined; more = receiveMessageOnPort(port)) {
        take(more.message as Request);
      }
      if (waiting.length === 0) break;
      const { answers, ...batch } = committer.run(waiting.splice(0, batchOperations));
      reply({
        batch,
        answers: answers.map((one) => ("error" in one ? { error: errorMessage(one.error) } : one)),
      });
    }
    if (isClosing) {
      close();
      port.close();
    } else clean();
  };

  const clean = () => {
    if (isCleaning || !committer.needsCleaning) return;
    isCleaning = true;
    // Operations that came meanwhile go first.
    setImmediate(() => {
      isCleaning = false;
      if (isClosing) return;
      committer.clean();
      clean();
    });
  };

  port.on("message", (request: Request) => {
    take(request);
    work();
  });
  reply({ opened: { recovery, ...(rebuilt === undefined ? {} : { rebuilt }) } });
  clean();
}

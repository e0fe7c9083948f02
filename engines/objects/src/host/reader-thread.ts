import { type MessagePort, parentPort, workerData } from "node:worker_threads";
import { toSkepError } from "@skep/base";
import { disk } from "../disk.ts";
import { openIndexToRead } from "../index/schema.ts";
import { storePaths } from "../paths.ts";
import type { FoundVersion, Query } from "../read/queries.ts";
import { Reader } from "../read/reader.ts";
import { type AnswerMessage, errorMessage, type Reply, type Request, type ThreadData } from "./messages.ts";

/** The thread that looks things up, so that neither data nor commits wait for it. */
const port = parentPort as MessagePort;
const { directory } = workerData as ThreadData;
const paths = storePaths(directory);
const index = openIndexToRead(paths.index);
const reader = new Reader(disk, paths, index);

port.on("message", (request: Request) => {
  if ("close" in request) {
    reader.close();
    index.close();
    port.close();
  } else if ("queries" in request) {
    const transfer: ArrayBuffer[] = [];
    const found = request.queries.map((query) => answer(query, transfer));
    port.postMessage({ found } satisfies Reply, transfer);
  }
});

function answer(query: Query, transfer: ArrayBuffer[]): AnswerMessage {
  try {
    const value = reader.read(query);
    const inline = query.kind === "version" ? (value as FoundVersion | undefined)?.inline : undefined;
    if (inline !== undefined) transfer.push(inline.buffer as ArrayBuffer);
    return { value };
  } catch (error) {
    return { error: errorMessage(toSkepError(error)) };
  }
}

import type { Readable } from "node:stream";
import type { ApiClient } from "@skep/api";
import { toSkepError } from "@skep/base";
import { type ExecChannel, openExec } from "./exec-channel.ts";
import { printLabelled } from "./labelled.ts";

/** What one machine's command has done. */
export interface FleetRun {
  name: string;
  /** 1 and on: what the command found as SKEP_INDEX. */
  index: number;
  /** 0..255; 255 where it could not be run to its end, as ssh has it. */
  status: number;
  /** Why it could not be run to its end. */
  error?: string;
  /** With `collect`: the beginning of what it printed. */
  stdout?: string;
  stderr?: string;
  /** There is more than that. */
  truncated?: true;
}

export interface FleetOptions {
  client: ApiClient;
  names: readonly string[];
  /** For each machine's shell. */
  line: string;
  /** Instead of printing. */
  collect: boolean;
  label(name: string): string;
}

const lost = 255;
/** Of each stream. */
const collectedBytes = 1024 * 1024;
/** After a signal a command has so long to end by itself. */
const graceMs = 3000;

/**
 * One command on several machines at the same time, each knowing which of how many it is (SKEP_INDEX and
 * SKEP_TOTAL), with its output labelled line by line.
 */
export class Fleet {
  readonly #options: FleetOptions;
  readonly #channels = new Set<ExecChannel>();
  #signal: string | undefined;
  #grace: NodeJS.Timeout | undefined;

  constructor(options: FleetOptions) {
    this.#options = options;
  }

  /** Resolves when all have ended, in the order of the names. */
  async run(): Promise<FleetRun[]> {
    try {
      return await Promise.all(this.#options.names.map((name, at) => this.#runOne(name, at + 1)));
    } finally {
      clearTimeout(this.#grace);
    }
  }

  /** Ends the commands: first by a signal, a little later, or when asked again, without asking them. */
  end(signal: string): void {
    if (this.#signal !== undefined) {
      this.#close();
      return;
    }
    this.#signal = signal;
    for (const channel of this.#channels) channel.signal(signal);
    this.#grace = setTimeout(() => this.#close(), graceMs);
  }

  #close(): void {
    for (const channel of this.#channels) channel.close();
  }

  async #runOne(name: string, index: number): Promise<FleetRun> {
    const { client, names, line } = this.#options;
    try {
      if (this.#signal !== undefined) throw new Error("it was not begun");
      const env = { SKEP_INDEX: `${index}`, SKEP_TOTAL: `${names.length}` };
      const channel = await openExec(client, name, { command: ["sh", "-c", line], env });
      this.#channels.add(channel);
      try {
        // It may have come while this one was on its way.
        if (this.#signal !== undefined) channel.close();
        channel.stdin.end();
        const printed = this.#print(channel, name);
        printed.catch(() => {}); // how the command ended goes before
        const status = await channel.exit;
        return { name, index, status, ...(await printed) };
      } finally {
        this.#channels.delete(channel);
        channel.close();
      }
    } catch (error) {
      return { name, index, status: lost, error: toSkepError(error).message };
    }
  }

  async #print(channel: ExecChannel, name: string): Promise<Partial<FleetRun>> {
    const { collect, label } = this.#options;
    const { stdout, stderr } = channel;
    if (!collect) {
      const prefix = label(name);
      await Promise.all([
        printLabelled(stdout, prefix, process.stdout),
        printLabelled(stderr, prefix, process.stderr),
      ]);
      return {};
    }
    const [out, err] = await Promise.all([beginningOf(stdout), beginningOf(stderr)]);
    const truncated = out.more || err.more ? ({ truncated: true } as const) : {};
    return { stdout: out.text, stderr: err.text, ...truncated };
  }
}

async function beginningOf(stream: Readable): Promise<{ text: string; more: boolean }> {
  const kept: Buffer[] = [];
  let bytes = 0;
  for await (const piece of stream as AsyncIterable<Buffer>) {
    if (bytes < collectedBytes) kept.push(piece.subarray(0, collectedBytes - bytes));
    bytes += piece.length;
  }
  return { text: Buffer.concat(kept).toString("utf8"), more: bytes > collectedBytes };
}

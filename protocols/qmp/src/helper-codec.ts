import { LineError } from "./codec.ts";

/**
 * Messages to the helper in a guest, and its answers. Source: guest/PROTOCOL.md.
 */

/** One thing for the helper to do. Each may be repeated with the same outcome. */
export type HelperStep =
  /** Says in its `why` which verbs it knows; refused by a helper of another version of the protocol. */
  | { verb: "ping-1" }
  /** 32 to 512 random bytes for the kernel's pool, from which it draws anew at once. */
  | { verb: "seed"; bytes: Uint8Array }
  | { verb: "clock"; unixMs: number }
  /** Six bytes as hexadecimal pairs with colons: of the first network card, and in the files that name it. */
  | { verb: "mac"; address: string }
  | { verb: "hostname"; name: string }
  /** 32 hexadecimal digits. */
  | { verb: "machine-id"; id: string }
  /** Asks whether there is such a file: `done`, else `skipped`. */
  | { verb: "has"; path: string }
  /** As `has`; where there is such a file, all steps after it are skipped. */
  | { verb: "unless"; path: string }
  /** Whole or not at all; of the directory's owner. */
  | { verb: "own-file"; path: string; mode: number; content: Uint8Array }
  /** Where there is such a file, else skipped; root's. */
  | { verb: "replace"; path: string; mode: number; content: Uint8Array }
  /** What was written so far is on the disk. */
  | { verb: "sync" }
  /** cloud-init's instance gets this id, and nothing of it runs again. */
  | { verb: "instance"; id: string }
  | { verb: "reload-sshd" }
  /** Stops all services and sessions, for so long (1 to 600 s of the guest's time) after the last message. */
  | { verb: "freeze"; seconds: number }
  | { verb: "thaw" };

export interface StepResult {
  verb: HelperStep["verb"];
  /** `skipped`: this guest has nothing of the kind. */
  outcome: "done" | "skipped" | "failed";
  /** Why it was not done, or what the step has to tell; may be empty. */
  why: string;
}

const maxMessageBytes = 256 * 1024;
export const maxSteps = 64;
/** No line of an answer is near it. */
const maxLineBytes = 4096;

/** The message, or why the helper would not take it. `id`: 1 to 64 of `a-z0-9-`, never used before. */
export function encodeMessage(id: string, steps: readonly HelperStep[]): Buffer | { wrong: string } {
  if (steps.length === 0 || steps.length > maxSteps) return { wrong: `it has ${steps.length} steps` };
  const lines = steps.map((step) => [step.verb, ...argumentsOf(step)]);
  const wrong = lines.findIndex((words) => !words.every((word) => /^[\x21-\x7e]+$/.test(word)));
  if (wrong >= 0)
    return { wrong: `an argument of step ${wrong} (${steps[wrong]?.verb}) is empty or not plain` };
  const text = lines.map((words) => `${words.join(" ")}\n`).join("");
  // The empty line ends what an earlier message has left half said.
  const message = Buffer.from(`\nbegin ${id}\n${text}go ${id} ${lines.length}\n`, "latin1");
  return message.length > maxMessageBytes ? { wrong: `it has ${message.length} bytes` } : message;
}

function argumentsOf(step: HelperStep): string[] {
  switch (step.verb) {
    case "seed":
      return [base64(step.bytes)];
    case "clock":
      return [String(Math.round(step.unixMs))];
    case "mac":
      return [step.address.toLowerCase()];
    case "hostname":
      return [step.name];
    case "machine-id":
    case "instance":
      return [step.id];
    case "has":
    case "unless":
      return [step.path];
    case "own-file":
    case "replace":
      return [step.path, step.mode.toString(8).padStart(3, "0"), base64(step.content)];
    case "freeze":
      return [String(step.seconds)];
    default:
      return [];
  }
}

function base64(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("base64");
}

export type HelperAnswer = { results: StepResult[] } | { refused: string };

/** Finds the answer to one message in what the helper sends; lines for another message are passed over. */
export class AnswerDecoder {
  readonly #id: string;
  readonly #steps: readonly HelperStep[];
  #results: StepResult[] = [];
  #held = "";

  constructor(id: string, steps: readonly HelperStep[]) {
    this.#id = id;
    this.#steps = steps;
  }

  /** Gives the answer once it is whole. Throws LineError at what no helper says. */
  push(bytes: Uint8Array): HelperAnswer | undefined {
    const lines = (this.#held + Buffer.from(bytes).toString("latin1")).split("\n");
    this.#held = lines.pop() as string;
    for (const line of lines) {
      const answer = this.#take(line);
      if (answer !== undefined) return answer;
    }
    if (this.#held.length > maxLineBytes) throw new LineError(`a line is longer than ${maxLineBytes} bytes`);
    return undefined;
  }

  #take(line: string): HelperAnswer | undefined {
    const [kind = "", id, number, verb, outcome, ...why] = line.split(" ");
    if (id !== this.#id) return undefined;
    if (kind === "refused") return { refused: printable(line.slice(kind.length + id.length + 2)) };
    const count = this.#results.length;
    if (kind === "end" && number === String(count) && count === this.#steps.length) {
      return { results: this.#results };
    }
    const step = this.#steps[count];
    const isNext = kind === "step" && step !== undefined && number === String(count) && verb === step.verb;
    if (!isNext || (outcome !== "done" && outcome !== "skipped" && outcome !== "failed")) {
      throw new LineError(`it answers "${printable(line.slice(0, 100))}" where step ${count} was expected`);
    }
    this.#results.push({ verb: step.verb, outcome, why: printable(why.join(" ")) });
    return undefined;
  }
}

/** A guest is not trusted: its words go to people's terminals. */
function printable(text: string): string {
  return text.replace(/[^\x20-\x7e]/g, "?").trim();
}

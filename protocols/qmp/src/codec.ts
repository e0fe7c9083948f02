/**
 * Line-JSON as QMP and the guest agent speak it: one JSON object a line, ended by LF or CRLF.
 * Source: QEMU, docs/interop/qmp-spec.txt; guest-sync-delimited in qga/qapi-schema.json.
 */

export type JsonObject = { [key: string]: unknown };

/** Bytes came that are no line of JSON. The stream cannot be trusted after it. */
export class LineError extends Error {
  override name = "LineError";
}

/** What the guest agent puts before the answer to guest-sync-delimited; never part of JSON text. */
export const delimiter = 0xff;

const newline = 0x0a;

export function encodeLine(value: JsonObject): Buffer {
  return Buffer.from(`${JSON.stringify(value)}\n`);
}

export class LineDecoder {
  readonly #maxLineBytes: number;
  #parts: Uint8Array[] = [];
  #heldBytes = 0;
  #skipping = false;

  constructor(options: { maxLineBytes: number }) {
    this.#maxLineBytes = options.maxLineBytes;
  }

  /** Drops what is held and everything up to and including the next delimiter. */
  skipToDelimiter(): void {
    this.#parts = [];
    this.#heldBytes = 0;
    this.#skipping = true;
  }

  /**
   * Takes the next bytes of the stream and hands out every object that is complete with them.
   * Throws LineError at the first line that is too long or no JSON object; objects before it were
   * handed out.
   */
  push(bytes: Uint8Array, onObject: (object: JsonObject) => void): void {
    let start = 0;
    while (start < bytes.length) {
      if (this.#skipping) {
        const at = bytes.indexOf(delimiter, start);
        if (at < 0) return;
        this.#skipping = false;
        start = at + 1;
        continue;
      }
      const end = bytes.indexOf(newline, start);
      const part = bytes.subarray(start, end < 0 ? bytes.length : end);
      if (this.#heldBytes + part.length > this.#maxLineBytes) {
        throw new LineError(`a line is longer than ${this.#maxLineBytes} bytes`);
      }
      this.#parts.push(part);
      this.#heldBytes += part.length;
      if (end < 0) return;
      start = end + 1;
      const line = Buffer.concat(this.#parts, this.#heldBytes).toString("utf8").trim();
      this.#parts = [];
      this.#heldBytes = 0;
      if (line !== "") onObject(parseObject(line));
    }
  }
}

function parseObject(line: string): JsonObject {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch (error) {
    throw new LineError(`a line is not JSON: ${JSON.stringify(line.slice(0, 60))}`, { cause: error });
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new LineError("a line is not a JSON object");
  }
  return value as JsonObject;
}

/** The `error` member of an answer, whatever a broken server put there. */
export function errorOf(message: JsonObject): { class: string; desc: string } | undefined {
  if (message.error === undefined) return undefined;
  const error = (message.error ?? {}) as JsonObject;
  return { class: String(error.class ?? "GenericError"), desc: String(error.desc ?? "no reason given") };
}

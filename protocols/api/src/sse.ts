/** One message of an event stream (WHATWG HTML, section "Server-sent events"). */
export interface StreamMessage {
  id: string | undefined;
  event: string;
  data: string;
}

/** Bytes in, messages out: feed it pieces of any length. */
export class EventStreamParser {
  #decoder = new TextDecoder();
  #rest = "";
  #id: string | undefined;
  #event = "";
  #data: string[] = [];
  #limit: number;

  constructor(limitCharacters = 16_777_216) {
    this.#limit = limitCharacters;
  }

  push(piece: Uint8Array): StreamMessage[] {
    this.#rest += this.#decoder.decode(piece, { stream: true });
    const messages: StreamMessage[] = [];
    let from = 0;
    for (let end = this.#rest.indexOf("\n"); end >= 0; end = this.#rest.indexOf("\n", from)) {
      const line = this.#rest.slice(from, this.#rest[end - 1] === "\r" ? Math.max(from, end - 1) : end);
      from = end + 1;
      const message = this.#line(line);
      if (message !== undefined) messages.push(message);
    }
    this.#rest = this.#rest.slice(from);
    if (this.#rest.length > this.#limit) throw new RangeError("a message of the event stream is too large");
    return messages;
  }

  #line(line: string): StreamMessage | undefined {
    if (line === "") {
      const data = this.#data.join("\n");
      const message = { id: this.#id, event: this.#event || "message", data };
      const empty = this.#data.length === 0;
      this.#data = [];
      this.#event = "";
      return empty ? undefined : message;
    }
    const colon = line.indexOf(":");
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (field === "data") this.#data.push(value);
    else if (field === "event") this.#event = value;
    else if (field === "id") this.#id = value;
    return undefined;
  }
}

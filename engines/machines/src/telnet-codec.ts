/**
 * Telnet as a console needs it: the server echoes and suppresses go-ahead, both sides go binary when
 * they can. Source: RFC 854, 855, 856 (binary), 857 (echo), 858 (suppress go-ahead).
 */
const command = {
  SE: 240,
  BRK: 243,
  IP: 244,
  AYT: 246,
  SB: 250,
  WILL: 251,
  WONT: 252,
  DO: 253,
  DONT: 254,
  IAC: 255,
};
const option = { BINARY: 0, ECHO: 1, SUPPRESS_GO_AHEAD: 3 };

const CR = 0x0d;
const LF = 0x0a;
const NUL = 0;

/** What the server offers to do, and what it asks of the client. */
const offered = [option.ECHO, option.SUPPRESS_GO_AHEAD, option.BINARY];
const asked = [option.SUPPRESS_GO_AHEAD, option.BINARY];

type State = "data" | "afterCR" | "command" | "option" | "subnegotiation" | "subnegotiationCommand";

export class TelnetCodec {
  #state: State = "data";
  #verb = 0;
  /** Options that are in force, or were offered and not refused. */
  readonly #ours = new Set<number>(offered);
  readonly #theirs = new Set<number>(asked);
  #clientBinary = false;
  #serverBinary = false;
  #lastWasCR = false;

  /** What the server says first. */
  greeting(): Buffer {
    return Buffer.from([
      ...offered.flatMap((one) => [command.IAC, command.WILL, one]),
      ...asked.flatMap((one) => [command.IAC, command.DO, one]),
    ]);
  }

  /** Bytes from the client: what is typed, and what to answer. Never holds anything back. */
  decode(bytes: Uint8Array): { data: Buffer; answer: Buffer } {
    const data: number[] = [];
    const answer: number[] = [];
    for (const byte of bytes) this.#take(byte, data, answer);
    return { data: Buffer.from(data), answer: Buffer.from(answer) };
  }

  /** Bytes for the client. */
  encode(bytes: Uint8Array): Buffer {
    const out: number[] = [];
    for (const byte of bytes) {
      // Outside binary mode a return that begins no line end is followed by NUL.
      if (this.#lastWasCR && byte !== LF && !this.#serverBinary) out.push(NUL);
      this.#lastWasCR = byte === CR;
      out.push(byte);
      if (byte === command.IAC) out.push(command.IAC);
    }
    return Buffer.from(out);
  }

  #take(byte: number, data: number[], answer: number[]): void {
    switch (this.#state) {
      case "afterCR":
        this.#state = "data";
        // The return key arrives as CR LF or CR NUL and is a single CR on a serial line.
        if (byte === LF || byte === NUL) return;
        this.#take(byte, data, answer);
        return;
      case "data":
        if (byte === command.IAC) {
          this.#state = "command";
          return;
        }
        data.push(byte);
        if (byte === CR && !this.#clientBinary) this.#state = "afterCR";
        return;
      case "command":
        this.#command(byte, data, answer);
        return;
      case "option":
        this.#state = "data";
        this.#negotiate(this.#verb, byte, answer);
        return;
      case "subnegotiation":
        if (byte === command.IAC) this.#state = "subnegotiationCommand";
        return;
      case "subnegotiationCommand":
        this.#state = byte === command.SE ? "data" : "subnegotiation";
        return;
    }
  }

  #command(byte: number, data: number[], answer: number[]): void {
    this.#state = "data";
    if (byte === command.IAC) data.push(0xff);
    else if (byte === command.SB) this.#state = "subnegotiation";
    else if (byte >= command.WILL && byte <= command.DONT) {
      this.#verb = byte;
      this.#state = "option";
    } else if (byte === command.IP || byte === command.BRK) data.push(0x03);
    else if (byte === command.AYT) answer.push(...Buffer.from("\r\n[skep: yes]\r\n"));
  }

  /** Answers only what changes something, or two polite sides would never stop (RFC 854). */
  #negotiate(verb: number, one: number, answer: number[]): void {
    const { IAC, WILL, WONT, DO, DONT } = command;
    if (verb === DO && !this.#ours.has(one)) {
      if (!offered.includes(one)) answer.push(IAC, WONT, one);
      else {
        this.#ours.add(one);
        answer.push(IAC, WILL, one);
      }
    } else if (verb === DONT && this.#ours.delete(one)) answer.push(IAC, WONT, one);
    else if (verb === WILL && !this.#theirs.has(one)) {
      if (!asked.includes(one)) answer.push(IAC, DONT, one);
      else {
        this.#theirs.add(one);
        answer.push(IAC, DO, one);
      }
    } else if (verb === WONT && this.#theirs.delete(one)) answer.push(IAC, DONT, one);
    if (one !== option.BINARY) return;
    if (verb === WILL || verb === WONT) this.#clientBinary = verb === WILL;
    else this.#serverBinary = verb === DO;
  }
}

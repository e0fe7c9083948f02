import { type AgentCallOptions, AgentChannel } from "./agent-channel.ts";
import type { JsonObject } from "./codec.ts";

export interface AgentExecRequest {
  /** Looked up in the guest's PATH when it holds no slash. */
  path: string;
  args?: readonly string[];
  env?: Readonly<Record<string, string>>;
  input?: Uint8Array;
  /** Keep stdout and stderr for `execStatus`; the agent keeps at most 16 MiB of each. */
  capture?: boolean;
}

export type AgentExecStatus =
  | { exited: false }
  | {
      exited: true;
      /** Absent when a signal ended it. */
      exitCode?: number;
      signal?: number;
      stdout: Buffer;
      stderr: Buffer;
      truncated: boolean;
    };

export interface AgentInterface {
  name: string;
  mac?: string;
  addresses: { address: string; family: "ipv4" | "ipv6"; prefix: number }[];
}

export interface AgentOsInfo {
  id?: string;
  name?: string;
  "pretty-name"?: string;
  "version-id"?: string;
  "kernel-release"?: string;
  machine?: string;
}

interface RawExecStatus {
  exited: boolean;
  exitcode?: number;
  signal?: number;
  "out-data"?: string;
  "err-data"?: string;
  "out-truncated"?: boolean;
  "err-truncated"?: boolean;
}

interface RawInterface {
  name: string;
  "hardware-address"?: string;
  "ip-addresses"?: { "ip-address": string; "ip-address-type": "ipv4" | "ipv6"; prefix: number }[];
}

/** The largest piece that one file-write carries; a larger one makes lines that block other calls. */
const writeChunkBytes = 256 * 1024;
const readChunkBytes = 256 * 1024;

/**
 * qemu-guest-agent inside one machine, over the host's end of its virtio port. Connects with the
 * first call; calls wait for one another; a call that got no answer leaves no wedge, for the next one
 * connects and synchronises again. Source: QEMU guest agent protocol reference.
 *
 * Every method fails with AGENT_UNREACHABLE, AGENT_TIMEOUT, AGENT_CLOSED, CANCELLED, or QmpError
 * (code AGENT_ERROR) when the agent refuses.
 */
export class GuestAgent implements AsyncDisposable {
  readonly #channel: AgentChannel;

  constructor(socketPath: string) {
    this.#channel = new AgentChannel(socketPath);
  }

  /** Any command by its name. */
  call<R = unknown>(command: string, args: JsonObject = {}, options: AgentCallOptions = {}): Promise<R> {
    return this.#channel.call(command, args, options) as Promise<R>;
  }

  async ping(options: AgentCallOptions = {}): Promise<void> {
    await this.call("guest-ping", {}, { timeoutMs: 5000, ...options });
  }

  /** `commands` are the names of what this agent would do now (a frozen one refuses most). */
  async info(options: AgentCallOptions = {}): Promise<{ version: string; commands: Set<string> }> {
    const { version, supported_commands: commands } = await this.call<{
      version: string;
      supported_commands: { name: string; enabled: boolean }[];
    }>("guest-info", {}, options);
    return { version, commands: new Set(commands.filter((one) => one.enabled).map((one) => one.name)) };
  }

  /** Starts a program and gives its pid. */
  async exec(request: AgentExecRequest, options: AgentCallOptions = {}): Promise<number> {
    const { pid } = await this.call<{ pid: number }>(
      "guest-exec",
      {
        path: request.path,
        ...(request.args === undefined ? {} : { arg: request.args }),
        ...(request.env === undefined
          ? {}
          : { env: Object.entries(request.env).map(([name, value]) => `${name}=${value}`) }),
        ...(request.input === undefined ? {} : { "input-data": toBase64(request.input) }),
        "capture-output": request.capture ?? false,
      },
      options,
    );
    return pid;
  }

  /** The agent forgets a program once this has said that it exited. */
  async execStatus(pid: number, options: AgentCallOptions = {}): Promise<AgentExecStatus> {
    const raw = await this.call<RawExecStatus>("guest-exec-status", { pid }, options);
    if (!raw.exited) return { exited: false };
    return {
      exited: true,
      ...(raw.exitcode === undefined ? {} : { exitCode: raw.exitcode }),
      ...(raw.signal === undefined ? {} : { signal: raw.signal }),
      stdout: Buffer.from(raw["out-data"] ?? "", "base64"),
      stderr: Buffer.from(raw["err-data"] ?? "", "base64"),
      truncated: (raw["out-truncated"] ?? false) || (raw["err-truncated"] ?? false),
    };
  }

  /** `mode` as fopen(3) has it. Gives a handle that lives until `fileClose`, or the agent's end. */
  fileOpen(path: string, mode: string, options: AgentCallOptions = {}): Promise<number> {
    return this.call("guest-file-open", { path, mode }, options);
  }

  async fileRead(
    handle: number,
    maxBytes: number = readChunkBytes,
    options: AgentCallOptions = {},
  ): Promise<{ bytes: Buffer; eof: boolean }> {
    const raw = await this.call<{ "buf-b64": string; eof: boolean }>(
      "guest-file-read",
      { handle, count: maxBytes },
      options,
    );
    return { bytes: Buffer.from(raw["buf-b64"], "base64"), eof: raw.eof };
  }

  async fileWrite(handle: number, bytes: Uint8Array, options: AgentCallOptions = {}): Promise<void> {
    let at = 0;
    while (at < bytes.length) {
      const piece = bytes.subarray(at, at + writeChunkBytes);
      const { count } = await this.call<{ count: number }>(
        "guest-file-write",
        { handle, "buf-b64": toBase64(piece) },
        options,
      );
      at += count;
    }
  }

  async fileSeek(handle: number, offset: number, options: AgentCallOptions = {}): Promise<void> {
    await this.call("guest-file-seek", { handle, offset, whence: "set" }, options);
  }

  async fileFlush(handle: number, options: AgentCallOptions = {}): Promise<void> {
    await this.call("guest-file-flush", { handle }, options);
  }

  async fileClose(handle: number, options: AgentCallOptions = {}): Promise<void> {
    await this.call("guest-file-close", { handle }, options);
  }

  async interfaces(options: AgentCallOptions = {}): Promise<AgentInterface[]> {
    const raw = await this.call<RawInterface[]>("guest-network-get-interfaces", {}, options);
    return raw.map((one) => ({
      name: one.name,
      ...(one["hardware-address"] === undefined ? {} : { mac: one["hardware-address"] }),
      addresses: (one["ip-addresses"] ?? []).map((address) => ({
        address: address["ip-address"],
        family: address["ip-address-type"],
        prefix: address.prefix,
      })),
    }));
  }

  /** The agent does not answer a shutdown that it accepts: no refusal within the time-out is consent. */
  async shutdown(
    mode: "powerdown" | "halt" | "reboot" = "powerdown",
    options: AgentCallOptions = {},
  ): Promise<void> {
    await this.#channel.callWithoutAnswer("guest-shutdown", { mode }, { timeoutMs: 2000, ...options });
  }

  /** Gives how many file systems are frozen. A frozen agent refuses nearly everything but `thaw`. */
  freeze(options: AgentCallOptions = {}): Promise<number> {
    return this.call("guest-fsfreeze-freeze", {}, { timeoutMs: 60_000, ...options });
  }

  thaw(options: AgentCallOptions = {}): Promise<number> {
    return this.call("guest-fsfreeze-thaw", {}, { timeoutMs: 60_000, ...options });
  }

  freezeStatus(options: AgentCallOptions = {}): Promise<"thawed" | "frozen"> {
    return this.call("guest-fsfreeze-status", {}, options);
  }

  osInfo(options: AgentCallOptions = {}): Promise<AgentOsInfo> {
    return this.call("guest-get-osinfo", {}, options);
  }

  async hostName(options: AgentCallOptions = {}): Promise<string> {
    return (await this.call<{ "host-name": string }>("guest-get-host-name", {}, options))["host-name"];
  }

  /** Sets the guest's clock, without a time from its hardware clock. */
  async setTime(unixMs?: number, options: AgentCallOptions = {}): Promise<void> {
    await this.call("guest-set-time", unixMs === undefined ? {} : { time: unixMs * 1e6 }, options);
  }

  /** Lets go of the socket, for instance when the machine has stopped; the next call connects again. */
  disconnect(): void {
    this.#channel.disconnect("it was closed here");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.disconnect();
  }
}

function toBase64(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("base64");
}

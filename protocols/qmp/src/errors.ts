import { type ErrorTable, errorsOf, SkepError } from "@skep/base";

export const qmpErrors = {
  QMP_UNREACHABLE: {
    message: "cannot reach QEMU at {path}: {why}",
    hint: "see whether the machine runs and what its qemu.log says",
    status: 503,
  },
  QMP_TIMEOUT: {
    message: "QEMU did not answer {command} within {timeoutMs} ms",
    hint: "QEMU may wait for storage; try again, or stop the machine by force",
    status: 504,
  },
  QMP_CLOSED: { message: "the connection to QEMU at {path} is closed: {why}", status: 503 },
  QMP_PROTOCOL: { message: "{path} sent something that is not the protocol: {why}", status: 502 },
  QMP_ERROR: { message: "QEMU refused {command}: {desc}", status: 409 },
  AGENT_UNREACHABLE: {
    message: "cannot reach the guest agent at {path}: {why}",
    hint: "see whether the machine runs",
    status: 503,
  },
  AGENT_TIMEOUT: {
    message: "the guest agent did not answer {command} within {timeoutMs} ms",
    hint: "the guest may still boot, be busy, or lack the package qemu-guest-agent",
    status: 504,
  },
  AGENT_CLOSED: { message: "the connection to the guest agent at {path} is closed: {why}", status: 503 },
  AGENT_ERROR: { message: "the guest agent refused {command}: {desc}", status: 409 },
  HELPER_SILENT: {
    message: "the helper in the guest does not answer at {path}: {why}",
    hint: "the guest may still boot, or have no skep-helper: docs/images.md says how it gets one",
    status: 504,
  },
  HELPER_REFUSED: {
    message: "the helper in the guest did nothing: {why}",
    hint: "it may be of another version of skep: docs/images.md says how to install the present one",
    status: 409,
  },
} as const satisfies ErrorTable;

export const fail = errorsOf(qmpErrors);

/** The other side understood a command and refused it. */
export class QmpError extends SkepError {
  readonly command: string;
  /** QEMU's class: `GenericError`, `CommandNotFound`, `DeviceNotFound`, … */
  readonly class: string;
  /** QEMU's sentence. */
  readonly desc: string;

  constructor(code: "QMP_ERROR" | "AGENT_ERROR", command: string, error: { class: string; desc: string }) {
    const { message, status } = fail(code, { command, desc: error.desc });
    super(code, message, { status });
    this.command = command;
    this.class = error.class;
    this.desc = error.desc;
  }
}

/** What a caller gets whose signal was aborted; a SkepError given as the reason goes through as it is. */
export function cancelled(signal: AbortSignal): SkepError {
  if (signal.reason instanceof SkepError) return signal.reason;
  return new SkepError("CANCELLED", "cancelled", { status: 499, cause: signal.reason });
}

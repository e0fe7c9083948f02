import type {
  Liveness,
  LivenessCheck,
  LivenessRequest,
  RestartPolicy,
  RestartRequest,
} from "@skep/api/schemas";
import { fail } from "./errors.ts";
import type { MachineFile } from "./machine-file.ts";

const defaults = { intervalSeconds: 10, timeoutSeconds: 5, failures: 3 };
/** How long a boot may take before a check that never succeeded counts as failing. */
const startSeconds = { native: 180, tcg: 600 };
const defaultAttempts = 5;

export const noRestart: RestartPolicy = { policy: "no", attempts: null };

/** What was asked for, made whole. MACHINE_INVALID. */
export function livenessCheck(
  request: LivenessRequest,
  machine: Pick<MachineFile, "name" | "ports">,
): LivenessCheck {
  const { kind, port = null, path = null, command = null } = request;
  const invalid = (why: string, hint: string) => fail("MACHINE_INVALID", { name: machine.name, why, hint });
  const networked = kind === "tcp" || kind === "http";
  if (networked && port === null) throw invalid(`its check has no port`, `write ${kind}:PORT`);
  if (!networked && port !== null) throw invalid(`a check by ${kind} has no port`, "leave it out");
  if (port !== null && !machine.ports.some((one) => one.guestPort === port && one.protocol === "tcp")) {
    const why = `its check asks port ${port}, which is not forwarded`;
    throw invalid(why, `publish it: --publish 0:${port}, or skep port add ${machine.name} 0:${port}`);
  }
  if (kind !== "http" && path !== null) throw invalid(`a check by ${kind} has no path`, "leave it out");
  if (path !== null && !/^\/[\x21-\x7e]*$/.test(path)) {
    throw invalid(
      "the path of its check is not one of HTTP's",
      "write it as in a request, with %20 for a space",
    );
  }
  if ((kind === "command") !== (command !== null)) {
    const why = command === null ? "its check has no command" : `a check by ${kind} has no command`;
    throw invalid(why, "write command:LINE");
  }
  if (command?.includes("\0"))
    throw invalid("the command of its check has a NUL character in it", "leave it out");
  return {
    kind,
    port,
    path: kind === "http" ? (path ?? "/") : null,
    command,
    intervalSeconds: request.intervalSeconds ?? defaults.intervalSeconds,
    timeoutSeconds: request.timeoutSeconds ?? defaults.timeoutSeconds,
    failures: request.failures ?? defaults.failures,
    startSeconds: request.startSeconds ?? null,
  };
}

/** What was asked for, made whole. MACHINE_INVALID. */
export function restartPolicy({ policy, attempts }: RestartRequest, name: string): RestartPolicy {
  if (policy === "on-failure") return { policy, attempts: attempts ?? defaultAttempts };
  if (attempts === undefined) return { policy, attempts: null };
  const why = `restarts by "${policy}" are not counted`;
  throw fail("MACHINE_INVALID", { name, why, hint: "write on-failure:5, or leave the number out" });
}

/** What is wrong with what `machine.json` says of both. */
export function damagedPolicies({
  check,
  restart,
}: Pick<MachineFile, "check" | "restart">): string | undefined {
  const counted = restart?.attempts === null || (restart?.attempts as number) >= 1;
  if (!["no", "on-failure", "always"].includes(restart?.policy) || !counted) return "has no valid restart";
  if (check === null) return undefined;
  const { kind, port, path, command, failures } = check;
  const numbers = [check.intervalSeconds, check.timeoutSeconds, failures, check.startSeconds ?? 1];
  const wellFormed =
    ["agent", "tcp", "http", "command"].includes(kind) &&
    (kind !== "command" || typeof command === "string") &&
    (kind !== "http" || typeof path === "string") &&
    ((kind !== "tcp" && kind !== "http") || Number.isInteger(port));
  if (!wellFormed) return "has no valid check";
  return numbers.every((one) => typeof one === "number" && one >= 0)
    ? undefined
    : "has no valid times of its check";
}

/** When a check that has not succeeded yet begins to count, in milliseconds since the epoch. */
export function startLimit(check: LivenessCheck, startedAt: string, accelerator: string | undefined): number {
  const patience = accelerator === "tcg" ? startSeconds.tcg : startSeconds.native;
  return Date.parse(startedAt) + (check.startSeconds ?? patience) * 1000;
}

export function liveness(state: Liveness["state"], failures = 0, why: string | null = null): Liveness {
  return { state, since: new Date().toISOString(), failures, why };
}

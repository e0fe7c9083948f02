import type { LivenessRequest, Machine, RestartRequest } from "@skep/api";
import { formatAge, parseDuration } from "@skep/base";
import type { Command } from "commander";
import { usage } from "./errors.ts";

/** As flags and machine.yaml give it. */
export interface CheckSettings {
  check?: string;
  checkInterval?: string;
  checkTimeout?: string;
  checkFailures?: string;
  checkStart?: string;
}

export const checkKeys = ["check", "checkInterval", "checkTimeout", "checkFailures", "checkStart"] as const;

export function addLivenessOptions(command: Command): void {
  command
    .option("--restart <policy>", "no, on-failure, on-failure:TRIES or always")
    .option("--check <check>", "agent, tcp:PORT, http:PORT[/PATH] or command:LINE; the guest's own ports")
    .option("--check-interval <duration>", "between two checks, as in 30s")
    .option("--check-timeout <duration>", "for one check")
    .option("--check-failures <count>", "failed checks in a row until it counts as failing")
    .option("--check-start <duration>", "how long the first success may take after a start");
}

/** `on-failure:3`. */
export function parseRestart(value: string): RestartRequest {
  const [, policy, attempts] = /^(no|on-failure|always)(?::(\d{1,6}))?$/.exec(value) ?? [];
  const counted = attempts === undefined || (policy === "on-failure" && Number(attempts) > 0);
  if (policy === undefined || !counted)
    throw usage(`restart policy "${value}" is not known`, "write no, on-failure, on-failure:5 or always");
  return {
    policy: policy as RestartRequest["policy"],
    ...(attempts === undefined ? {} : { attempts: Number(attempts) }),
  };
}

/** Undefined where no check is asked for. */
export function parseCheck(settings: CheckSettings): LivenessRequest | undefined {
  const { check, checkInterval, checkTimeout, checkFailures, checkStart } = settings;
  if (check === undefined) {
    if (checkKeys.every((key) => settings[key] === undefined)) return undefined;
    throw usage("there is no check to set the times of", "give the check itself, too: --check http:80/");
  }
  const failures = checkFailures === undefined ? undefined : Number(checkFailures);
  if (failures !== undefined && !(Number.isInteger(failures) && failures > 0))
    throw usage(`"${checkFailures}" is not a whole number above 0`, "write --check-failures 3");
  return {
    ...whatToCheck(check),
    ...(checkInterval === undefined ? {} : { intervalSeconds: parseDuration(checkInterval) / 1000 }),
    ...(checkTimeout === undefined ? {} : { timeoutSeconds: parseDuration(checkTimeout) / 1000 }),
    ...(failures === undefined ? {} : { failures }),
    ...(checkStart === undefined ? {} : { startSeconds: parseDuration(checkStart) / 1000 }),
  };
}

function whatToCheck(check: string): LivenessRequest {
  if (check === "agent") return { kind: "agent" };
  const command = /^command:(.*\S.*)$/s.exec(check)?.[1];
  if (command !== undefined) return { kind: "command", command };
  const [, kind, digits, path] = /^(tcp|http):(\d{1,5})(\/.*)?$/.exec(check) ?? [];
  const port = Number(digits);
  if (kind === undefined || !(port >= 1 && port <= 65535) || (kind === "tcp" && path !== undefined))
    throw usage(
      `check "${check}" is not understood`,
      "write agent, tcp:PORT, http:PORT/PATH or command:LINE",
    );
  return { kind: kind as "tcp" | "http", port, ...(path === undefined ? {} : { path }) };
}

/** `http:80/health, passing since 3m`; null where it has none. */
export function checkText({ check, liveness, state }: Machine): string | null {
  if (check === null) return null;
  const what = check.command ?? (check.port === null ? "" : `${check.port}${check.path ?? ""}`);
  const name = what === "" ? check.kind : `${check.kind}:${what}`;
  if (liveness === null) return name;
  const { why, failures, since } = liveness;
  const age = formatAge(Date.now() - Date.parse(since));
  const because = why === null ? "" : `: ${why}`;
  if (liveness.state === "failing") return `${name}, failing since ${age}${because}`;
  if (state !== "running") return name;
  if (liveness.state === "waiting") return `${name}, no success yet${because}`;
  return `${name}, passing since ${age}${failures === 0 ? "" : ` (${failures} failed just now${because})`}`;
}

/** `on-failure, 5 tries in a row`; null for the default. */
export function policyText({ restart: { policy, attempts } }: Machine): string | null {
  if (policy === "no") return null;
  return attempts === null ? policy : `${policy}, ${attempts} ${attempts === 1 ? "try" : "tries"} in a row`;
}

/** `2, the last 3m ago (guest panicked); again in 8s`; null where there was none. */
export function restartsText({ restarts }: Machine, now = Date.now()): string | null {
  if (restarts === null) return null;
  const { count, lastAt, why, dueAt, gaveUp } = restarts;
  const last = lastAt === null ? "" : `, the last ${formatAge(now - Date.parse(lastAt))} ago`;
  const because = why === null ? "" : ` (${why})`;
  const next = dueAt === null ? "" : `; ${dueText(dueAt, now)}`;
  return `${count}${last}${because}${next}${gaveUp ? "; given up" : ""}`;
}

/** `again in 8s`. */
export function dueText(dueAt: string, now = Date.now()): string {
  return `again in ${formatAge(Math.max(0, Date.parse(dueAt) - now))}`;
}

import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { LivenessRequest } from "@skep/api/schemas";
import { damagedPolicies, livenessCheck, noRestart, restartPolicy } from "./liveness.ts";
import { isEstablished } from "./liveness-probe.ts";

const ports = [
  { hostAddress: "127.0.0.1", hostPort: 20_000, guestPort: 80, protocol: "tcp" as const, automatic: true },
  { hostAddress: "127.0.0.1", hostPort: 20_001, guestPort: 53, protocol: "udp" as const, automatic: true },
];
const check = (request: LivenessRequest) => livenessCheck(request, { name: "web", ports });

describe("a check", () => {
  it("is made whole", () => {
    assert.deepEqual(check({ kind: "http", port: 80 }), {
      kind: "http",
      port: 80,
      path: "/",
      command: null,
      intervalSeconds: 10,
      timeoutSeconds: 5,
      failures: 3,
      startSeconds: null,
    });
  });

  for (const [request, why] of [
    [{ kind: "tcp" }, /no port/],
    [{ kind: "tcp", port: 81 }, /port 81, which is not forwarded/],
    [{ kind: "tcp", port: 53 }, /port 53, which is not forwarded/],
    [{ kind: "agent", port: 80 }, /by agent has no port/],
    [{ kind: "tcp", port: 80, path: "/" }, /by tcp has no path/],
    [{ kind: "http", port: 80, path: "health" }, /not one of HTTP's/],
    [{ kind: "http", port: 80, path: "/ HTTP/1.1\r\nX: y" }, /not one of HTTP's/],
    [{ kind: "command" }, /no command/],
    [{ kind: "agent", command: "true" }, /by agent has no command/],
    [{ kind: "command", command: "a\0b" }, /NUL/],
  ] as [LivenessRequest, RegExp][]) {
    it(`is refused: ${JSON.stringify(request)}`, () => {
      assert.throws(() => check(request), { code: "MACHINE_INVALID", message: why });
    });
  }

  it("and a policy that are not as they were written are damage", () => {
    const whole = { check: check({ kind: "tcp", port: 80 }), restart: noRestart };
    assert.equal(damagedPolicies(whole), undefined);
    assert.equal(damagedPolicies({ check: null, restart: noRestart }), undefined);
    for (const [part, change] of [
      ["check", { ...whole, check: { ...whole.check, port: null } }],
      ["check", { ...whole, check: { ...whole.check, kind: "smell" as never } }],
      ["check", { ...whole, check: { ...whole.check, intervalSeconds: -1 } }],
      ["restart", { ...whole, restart: { policy: "sometimes" as never, attempts: null } }],
      ["restart", { ...whole, restart: { policy: "always" as const, attempts: 0 } }],
      ["restart", { ...whole, restart: undefined as never }],
    ] as const) {
      assert.match(damagedPolicies(change) ?? "", new RegExp(part), JSON.stringify(change));
    }
  });
});

describe("a restart policy as asked for", () => {
  it("is made whole, or refused", () => {
    assert.deepEqual(restartPolicy({ policy: "on-failure" }, "web"), { policy: "on-failure", attempts: 5 });
    assert.deepEqual(restartPolicy({ policy: "always" }, "web"), { policy: "always", attempts: null });
    const counted = () => restartPolicy({ policy: "always", attempts: 2 }, "web");
    assert.throws(counted, { code: "MACHINE_INVALID" });
  });
});

it("a forwarded connection counts once the guest has answered it", () => {
  const head =
    "VLAN -1 (net):\n  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ\n";
  const row = (state: string, port: number) =>
    `  TCP[${state}]${" ".repeat(13 - state.length)} 15       127.0.0.1 ${port}       10.0.2.15    80     0     0\n`;
  const listening = head + row("HOST_FORWARD", 20_000);
  assert.ok(!isEstablished(listening, 20_000));
  assert.ok(isEstablished(listening + row("ESTABLISHED", 20_000), 20_000));
  assert.ok(!isEstablished(listening + row("ESTABLISHED", 20_001), 20_000));
  assert.ok(!isEstablished(listening + row("SYN_SENT", 20_000), 20_000));
  assert.ok(!isEstablished(listening + row("ESTABLISHED", 20_000) + row("SYN_SENT", 20_000), 20_000));
});

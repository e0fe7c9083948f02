import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { HelperStep, StepResult } from "@skep/qmp";
import { closingRequest, hostKeysToMake, identityOf, identityRequest, lackOf } from "./identity.ts";
import { makeHostKey } from "./ssh-host-keys.ts";

const copy = { id: "01234567-89ab-4cde-8f01-23456789abcd", name: "web-1" };

/** What a helper says to a request, where nothing goes wrong but at the steps given. */
function answered(
  request: readonly HelperStep[],
  other: Record<number, Partial<StepResult>> = {},
): StepResult[] {
  return request.map(({ verb }, index) => ({ verb, outcome: "done", why: "", ...other[index] }));
}

const at = (request: readonly HelperStep[], verb: string) => request.findIndex((step) => step.verb === verb);

describe("a copy's identity", () => {
  it("begins with its seed, and ends with the thaw", () => {
    const request = identityRequest(copy, "52:54:00:c0:ff:ee");
    assert.deepEqual(
      request.map(({ verb }) => verb),
      ["seed", "clock", "mac", "hostname", "machine-id", "instance", "has", "has", "has"],
    );
    assert.deepEqual(request.slice(2, 6), [
      { verb: "mac", address: "52:54:00:c0:ff:ee" },
      { verb: "hostname", name: "web-1" },
      { verb: "machine-id", id: "0123456789ab4cde8f0123456789abcd" },
      { verb: "instance", id: copy.id },
    ]);
    assert.notDeepEqual(identityRequest(copy, null)[0], request[0]);
    assert.equal(at(identityRequest(copy, null), "mac"), -1);
    assert.deepEqual(closingRequest([], "web-1"), [{ verb: "thaw" }]);
  });

  it("replaces the host keys that the guest has, and those only", async () => {
    const first = answered(identityRequest(copy, null), { 7: { outcome: "skipped" } });
    assert.deepEqual(hostKeysToMake(first), ["ed25519", "ecdsa"]);
    const keys = await Promise.all(hostKeysToMake(first).map(makeHostKey));
    const closing = closingRequest(keys, "web-1");
    assert.deepEqual(
      closing.map((step) => (step.verb === "file" ? `${step.path} ${step.mode.toString(8)}` : step.verb)),
      [
        "/etc/ssh/ssh_host_ed25519_key 600",
        "/etc/ssh/ssh_host_ed25519_key.pub 644",
        "/etc/ssh/ssh_host_ecdsa_key 600",
        "/etc/ssh/ssh_host_ecdsa_key.pub 644",
        "reload-sshd",
        "thaw",
      ],
    );
    const [, file] = closing;
    assert.ok(file?.verb === "file");
    assert.equal(Buffer.from(file.content).toString(), `${keys[0]?.publicKey} root@web-1\n`);
  });

  it("is told step by step; what a copy cannot be without is named", async () => {
    const keys = [await makeHostKey("ed25519")];
    const [request, closing] = [identityRequest(copy, null), closingRequest(keys, "web-1")];
    const told = (
      first: Record<number, Partial<StepResult>>,
      last: Record<number, Partial<StepResult>> = {},
    ) => identityOf(answered(request, first), keys, answered(closing, last));
    const whole = told({});
    assert.deepEqual(
      whole.map(({ step }) => step),
      [
        "seed",
        "clock",
        "hostname",
        "machine-id",
        "instance",
        "ssh host key (ed25519)",
        "reload-sshd",
        "thaw",
      ],
    );
    assert.ok(whole.every(({ outcome, why }) => outcome === "done" && why === null));
    assert.equal(lackOf(whole), undefined);
    const without = told({ [at(request, "instance")]: { outcome: "skipped", why: "not in this guest" } });
    assert.deepEqual(without[4], { step: "instance", outcome: "skipped", why: "not in this guest" });
    assert.equal(lackOf(without), undefined);
    const failed = { outcome: "failed", why: "No space left on device" } as const;
    assert.equal(lackOf(told({ [at(request, "hostname")]: failed })), undefined);
    assert.equal(lackOf(told({ 0: failed }))?.step, "seed");
    assert.equal(lackOf(told({}, { 1: failed }))?.step, "ssh host key (ed25519)");
    assert.equal(lackOf(told({}, { [at(closing, "thaw")]: failed }))?.why, "No space left on device");
  });
});

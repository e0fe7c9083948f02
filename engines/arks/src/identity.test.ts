import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { HelperStep, StepResult } from "@skep/qmp";
import {
  closingRequest,
  identityOf,
  identityRequest,
  keysInUse,
  lackOf,
  quickHostKeys,
  waitsForKey,
} from "./identity.ts";
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

const none = { outcome: "skipped", why: "not in this guest" } as const;
const failed = { outcome: "failed", why: "No space left on device" } as const;

describe("a copy's identity", () => {
  it("begins with its seed, and ends with the thaw", () => {
    const request = identityRequest(copy, { mac: "52:54:00:c0:ff:ee", keys: [] });
    assert.deepEqual(request.slice(2), [
      { verb: "mac", address: "52:54:00:c0:ff:ee" },
      { verb: "hostname", name: "web-1" },
      { verb: "machine-id", id: "0123456789ab4cde8f0123456789abcd" },
      { verb: "instance", id: copy.id },
      { verb: "unless", path: "/etc/ssh/ssh_host_rsa_key" },
      { verb: "reload-sshd" },
      { verb: "thaw" },
    ]);
    const other = identityRequest(copy, { mac: null, keys: [], firstBoot: true });
    assert.deepEqual([request[0]?.verb, request[1]?.verb], ["seed", "clock"]);
    assert.notDeepEqual(other[0], request[0]);
    assert.deepEqual([at(other, "mac"), at(other, "instance")], [-1, -1]);
  });

  it("replaces the host keys that the guest has, and those only", async () => {
    const keys = await Promise.all(quickHostKeys.map(makeHostKey));
    const request = identityRequest(copy, { mac: null, keys });
    const files = request.filter((step) => step.verb === "replace");
    assert.deepEqual(
      files.map(({ path, mode }) => `${path} ${mode.toString(8)}`),
      [
        "/etc/ssh/ssh_host_ed25519_key 600",
        "/etc/ssh/ssh_host_ed25519_key.pub 644",
        "/etc/ssh/ssh_host_ecdsa_key 600",
        "/etc/ssh/ssh_host_ecdsa_key.pub 644",
      ],
    );
    assert.equal(Buffer.from(files[1]?.content ?? "").toString(), `${keys[0]?.publicKey} root@web-1\n`);
    const first = at(request, "replace");
    const answers = answered(request, { [first]: none, [first + 1]: none });
    assert.deepEqual(keysInUse(answers, keys), [keys[1]]);
    assert.deepEqual(
      identityOf(answers, keys).filter(({ step }) => step.startsWith("ssh")),
      [{ step: "ssh host key (ecdsa)", outcome: "done", why: null }],
    );
  });

  it("lets in whom its owner wants, or there is no copy", () => {
    const authorizedKeys = {
      path: "/home/debian/.ssh/authorized_keys",
      publicKeys: ["ssh-ed25519 A", "ssh-rsa B"],
    };
    const request = identityRequest(copy, { mac: null, keys: [], authorizedKeys });
    const [file] = request.filter((step) => step.verb === "own-file");
    assert.deepEqual([file?.path, file?.mode], [authorizedKeys.path, 0o600]);
    assert.equal(Buffer.from(file?.content ?? "").toString(), "ssh-ed25519 A\nssh-rsa B\n");
    const answers = answered(request, { [at(request, "own-file")]: failed });
    assert.deepEqual(lackOf(identityOf(answers, [])), { step: "authorized keys", ...failed });
  });

  it("stops what wakes up running, once the guest has its seed", () => {
    const request = identityRequest(copy, { mac: null, keys: [], awake: true });
    assert.deepEqual(
      request.slice(0, 3).map(({ verb }) => verb),
      ["seed", "freeze", "clock"],
    );
    const answers = answered(request, { [at(request, "freeze")]: failed });
    assert.deepEqual(identityOf(answers, [])[1], { step: "freeze", ...failed });
    assert.equal(lackOf(identityOf(answers, [])), undefined);
  });

  it("waits for a key that takes long to make where the guest has one", async () => {
    const request = identityRequest(copy, { mac: null, keys: [] });
    const rest = at(request, "unless");
    assert.equal(waitsForKey(answered(request)), true);
    assert.equal(waitsForKey(answered(request, { [rest]: none })), false);
    const key = await makeHostKey("rsa");
    const verbs = (durable: boolean) => closingRequest(key, "web-1", { durable }).map(({ verb }) => verb);
    assert.deepEqual(verbs(false), ["replace", "replace", "reload-sshd", "thaw"]);
    assert.deepEqual(verbs(true), ["replace", "replace", "sync", "reload-sshd", "thaw"]);
  });

  it("is on the guest's disk before the rest of the guest goes on, where that is wanted", async () => {
    const request = identityRequest(copy, { mac: null, keys: [await makeHostKey("ed25519")], durable: true });
    assert.deepEqual(
      request.slice(at(request, "unless")).map(({ verb }) => verb),
      ["unless", "sync", "reload-sshd", "thaw"],
    );
    const answers = answered(request, { [at(request, "unless")]: none, [at(request, "sync")]: failed });
    assert.equal(lackOf(identityOf(answers, []))?.step, "sync");
  });

  it("is told step by step; what a copy cannot be without is named", async () => {
    const keys = [await makeHostKey("ed25519")];
    const request = identityRequest(copy, { mac: null, keys });
    const told = (other: Record<number, Partial<StepResult>>) =>
      identityOf(answered(request, { [at(request, "unless")]: none, ...other }), keys);
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
    const without = told({ [at(request, "instance")]: none });
    assert.deepEqual(without[4], { step: "instance", ...none });
    assert.equal(lackOf(without), undefined);
    assert.equal(lackOf(told({ [at(request, "hostname")]: failed })), undefined);
    assert.equal(lackOf(told({ 0: failed }))?.step, "seed");
    assert.equal(lackOf(told({ [at(request, "replace") + 1]: failed }))?.step, "ssh host key (ed25519)");
    assert.equal(lackOf(told({ [at(request, "thaw")]: failed }))?.why, "No space left on device");
  });
});

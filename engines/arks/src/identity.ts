import { randomBytes } from "node:crypto";
import type { IdentityStep } from "@skep/api/schemas";
import { type MachineFile, machineIdOf } from "@skep/machines";
import type { HelperStep, StepResult } from "@skep/qmp";
import { type HostKey, type HostKeyType, hostKeyTypes } from "./ssh-host-keys.ts";

/** Twice what the kernel's pool holds. */
const seedBytes = 64;
/** A copy that shares these with another, or never goes on, is of no use. */
const essential = /^(seed|ssh host key|thaw)/;

function hostKeyPath(type: HostKeyType): string {
  return `/etc/ssh/ssh_host_${type}_key`;
}

/**
 * What a copy's helper is asked first; written before its guest goes on, so that nothing in it draws a random
 * number before its seed. `mac` is null where the guest has to keep the one it has.
 */
export function identityRequest(
  { id, name }: Pick<MachineFile, "id" | "name">,
  mac: string | null,
): HelperStep[] {
  return [
    { verb: "seed", bytes: randomBytes(seedBytes) },
    { verb: "clock", unixMs: Date.now() },
    ...(mac === null ? [] : [{ verb: "mac" as const, address: mac }]),
    { verb: "hostname", name },
    { verb: "machine-id", id: machineIdOf(id) },
    { verb: "instance", id },
    ...hostKeyTypes.map((type) => ({ verb: "has" as const, path: hostKeyPath(type) })),
  ];
}

/** Which host keys the guest has, as it has answered: those are to be replaced. */
export function hostKeysToMake(answers: readonly StepResult[]): HostKeyType[] {
  const asked = answers.filter(({ verb }) => verb === "has");
  return hostKeyTypes.filter((_, index) => asked[index]?.outcome === "done");
}

/** What it is asked last: the keys, and only then may the rest of the guest go on. */
export function closingRequest(keys: readonly HostKey[], name: string): HelperStep[] {
  const files = keys.flatMap(({ type, privateKey, publicKey }): HelperStep[] => {
    const path = hostKeyPath(type);
    return [
      { verb: "file", path, mode: 0o600, content: Buffer.from(privateKey) },
      { verb: "file", path: `${path}.pub`, mode: 0o644, content: Buffer.from(`${publicKey} root@${name}\n`) },
    ];
  });
  return [...files, ...(keys.length === 0 ? [] : [{ verb: "reload-sshd" as const }]), { verb: "thaw" }];
}

/** What became of a copy's identity, by the answers to both requests. */
export function identityOf(
  first: readonly StepResult[],
  keys: readonly HostKey[],
  last: readonly StepResult[],
): IdentityStep[] {
  const files = last.filter(({ verb }) => verb === "file");
  const told = (step: string, results: readonly StepResult[]): IdentityStep => {
    const { outcome, why } = results.find((result) => result.outcome !== "done") ?? {
      outcome: "done",
      why: "",
    };
    return { step, outcome, why: outcome === "done" || why === "" ? null : why };
  };
  return [
    ...first.filter(({ verb }) => verb !== "has").map((result) => told(result.verb, [result])),
    ...keys.map(({ type }, index) => told(`ssh host key (${type})`, files.slice(2 * index, 2 * index + 2))),
    ...last.filter(({ verb }) => verb !== "file").map((result) => told(result.verb, [result])),
  ];
}

/** What a copy cannot be without; undefined: it has all of that. */
export function lackOf(identity: readonly IdentityStep[]): IdentityStep | undefined {
  return identity.find(({ step, outcome }) => outcome === "failed" && essential.test(step));
}

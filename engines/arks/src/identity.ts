import { randomBytes } from "node:crypto";
import type { IdentityStep } from "@skep/api/schemas";
import { type MachineFile, machineIdOf } from "@skep/machines";
import type { HelperStep, StepResult } from "@skep/qmp";
import { type HostKey, type HostKeyType, hostKeyTypes } from "./ssh-host-keys.ts";

/** Of the guest's own time; many times what a copy takes to get its identity, also on a busy host. */
export const leaseSeconds = 120;
/** Twice what the kernel's pool holds. */
const seedBytes = 64;
/** A copy that shares these with another, or never goes on, is of no use. */
const essential = /^(seed|authorized keys|ssh host key|sync|thaw)/;

/** Those whose verb does not say what it is for. */
const stepNames: ReadonlyMap<HelperStep["verb"], string> = new Map([["own-file", "authorized keys"]]);

function hostKeyPath(type: HostKeyType): string {
  return `/etc/ssh/ssh_host_${type}_key`;
}

/** Made before it is known which of them a copy's guest has. */
export const quickHostKeys = hostKeyTypes.filter((type) => type !== "rsa");

/** Who may log in, in that user's own file. */
export interface AuthorizedKeys {
  path: string;
  publicKeys: readonly string[];
}

export interface Wanted {
  /** Null where the guest has to keep the one it has. */
  mac: string | null;
  keys: readonly HostKey[];
  /** Undefined: as its source has them. */
  authorizedKeys?: AuthorizedKeys | undefined;
  /** Its cloud-init is to see a new instance. */
  firstBoot?: boolean;
  /** Its guest wakes up with all its services running: they are to be stopped first, once it has its seed. */
  awake?: boolean;
  /** All of it is to be on the guest's disk before the rest of the guest goes on, which would hold that up. */
  durable?: boolean;
}

/**
 * What a copy's helper is asked; written before its guest goes on, so that nothing in it draws a random number
 * before its seed. The rest of the guest goes on with the last step, unless there is a host key that takes long
 * to make: it then waits for `closingRequest`.
 */
export function identityRequest(
  { id, name }: Pick<MachineFile, "id" | "name">,
  { mac, keys, authorizedKeys, firstBoot = false, awake = false, durable = false }: Wanted,
): HelperStep[] {
  return [
    { verb: "seed", bytes: randomBytes(seedBytes) },
    ...(awake ? [{ verb: "freeze" as const, seconds: leaseSeconds }] : []),
    { verb: "clock", unixMs: Date.now() },
    ...(mac === null ? [] : [{ verb: "mac" as const, address: mac }]),
    { verb: "hostname", name },
    { verb: "machine-id", id: machineIdOf(id) },
    ...(firstBoot ? [] : [{ verb: "instance" as const, id }]),
    ...keys.flatMap((key) => keyFiles(key, name)),
    ...(authorizedKeys === undefined ? [] : [keysStep(authorizedKeys)]),
    { verb: "unless", path: hostKeyPath("rsa") },
    ...goOn(durable),
  ];
}

function goOn(durable: boolean): HelperStep[] {
  return [...(durable ? [{ verb: "sync" as const }] : []), { verb: "reload-sshd" }, { verb: "thaw" }];
}

/** Whether the guest still waits, for a key of that type. */
export function waitsForKey(answers: readonly StepResult[]): boolean {
  return answers.some(({ verb, outcome }) => verb === "unless" && outcome === "done");
}

export function closingRequest(
  key: HostKey,
  name: string,
  { durable = false }: Pick<Wanted, "durable">,
): HelperStep[] {
  return [...keyFiles(key, name), ...goOn(durable)];
}

function keysStep({ path, publicKeys }: AuthorizedKeys): HelperStep {
  return { verb: "own-file", path, mode: 0o600, content: Buffer.from(`${publicKeys.join("\n")}\n`) };
}

function keyFiles({ type, privateKey, publicKey }: HostKey, name: string): HelperStep[] {
  const path = hostKeyPath(type);
  const verb = "replace";
  return [
    { verb, path, mode: 0o600, content: Buffer.from(privateKey) },
    { verb, path: `${path}.pub`, mode: 0o644, content: Buffer.from(`${publicKey} root@${name}\n`) },
  ];
}

/** Those that the guest has, which are its own now. `answers`: to all that was asked. */
export function keysInUse(answers: readonly StepResult[], keys: readonly HostKey[]): HostKey[] {
  const replaced = answers.filter(({ verb }) => verb === "replace");
  return keys.filter((_, index) => replaced[2 * index]?.outcome !== "skipped");
}

/** What became of a copy's identity, by the answers to all that was asked of its helper. */
export function identityOf(answers: readonly StepResult[], keys: readonly HostKey[]): IdentityStep[] {
  const replaced = answers.filter(({ verb }) => verb === "replace");
  const told = (step: string, results: readonly StepResult[]): IdentityStep => {
    const { outcome, why } = results.find((result) => result.outcome !== "done") ?? {
      outcome: "done",
      why: "",
    };
    return { step, outcome, why: outcome === "done" || why === "" ? null : why };
  };
  const listed = answers.filter(({ verb }) => !["replace", "unless"].includes(verb));
  const goingOn = listed.findIndex(({ verb }) => verb === "reload-sshd");
  const own = keysInUse(answers, keys).map((key) => {
    const at = 2 * keys.indexOf(key);
    return told(`ssh host key (${key.type})`, replaced.slice(at, at + 2));
  });
  const steps = (results: readonly StepResult[]) =>
    results.map((result) => told(stepNames.get(result.verb) ?? result.verb, [result]));
  return [...steps(listed.slice(0, goingOn)), ...own, ...steps(listed.slice(goingOn))];
}

/** What a copy cannot be without; undefined: it has all of that. */
export function lackOf(identity: readonly IdentityStep[]): IdentityStep | undefined {
  return identity.find(({ step, outcome }) => outcome === "failed" && essential.test(step));
}

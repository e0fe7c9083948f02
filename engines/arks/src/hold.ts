import { rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { exists, readFileIfThere } from "@skep/base";
import type { LiveMachine, Machine } from "@skep/machines";

const freezeLimitMs = 5000;
const thawLimitMs = 20_000;
const thawTries = 3;
export const helperLimitMs = 15_000;
const withFileSystems = "file systems";

/** Says that a guest is held still by us. It goes with the host's boot, as QEMU does. */
function announcement({ runtime }: Machine): string {
  return join(runtime.directory, "held");
}

/** Before a guest is stopped, or has its file systems frozen: should we die, a later process lets it go on. */
export async function announceHold(machine: Machine, fileSystems = false): Promise<void> {
  await writeFile(announcement(machine), fileSystems ? withFileSystems : "");
}

export async function forgetHold(machine: Machine): Promise<void> {
  await rm(announcement(machine), { force: true });
}

/** Says that a guest's helper is asked by us to stop its services. */
function servicesAnnouncement({ runtime }: Machine): string {
  return join(runtime.directory, "services-held");
}

/** Before that: should we die, a later process has them go on, and nobody waits until the helper does so by itself. */
export async function announceServices(machine: Machine): Promise<void> {
  await writeFile(servicesAnnouncement(machine), "");
}

/** Where this does not work, they go on by themselves when the helper's lease is over. */
export async function letServicesGo(live: LiveMachine): Promise<void> {
  const { machine, helper } = live;
  await helper.exchange([{ verb: "thaw" }], { timeoutMs: helperLimitMs }).catch((error: unknown) => {
    const { name, context } = machine;
    if (live.alive) context.log.warn({ machine: name, err: error }, "cannot have its services go on at once");
  });
  await forgetServices(machine);
}

export async function forgetServices(machine: Machine): Promise<void> {
  await rm(servicesAnnouncement(machine), { force: true });
}

/** Lets a guest go on that an earlier process held still, within a turn of its machine. */
export async function recoverHold(machine: Machine): Promise<void> {
  const { live } = machine;
  if (live === undefined) return;
  await recoverStill(machine, live);
  if (!(await exists(servicesAnnouncement(machine)))) return;
  await letServicesGo(live);
  machine.context.log.info({ machine: machine.name }, "services that were held go on");
}

async function recoverStill(machine: Machine, live: LiveMachine): Promise<void> {
  const held = await readFileIfThere(announcement(machine));
  if (held === undefined) return;
  const { running } = await live.qmp.execute("query-status");
  if (!running) await live.qmp.execute("cont");
  if (machine.state === "paused") machine.setState("running");
  if (held === withFileSystems) await thawFileSystems(live);
  await forgetHold(machine);
  machine.context.log.info({ machine: machine.name }, "a guest that was held still goes on");
}

/**
 * Has the guest's agent write out and hold its file systems. False where it cannot, or does not answer in time.
 * Whatever it gives, or throws: call `thawFileSystems` afterwards, for a late agent may do it all the same.
 */
export async function freezeFileSystems(live: LiveMachine, signal: AbortSignal): Promise<boolean> {
  try {
    return (await live.agent.freeze({ timeoutMs: freezeLimitMs, signal })) > 0;
  } catch (error) {
    signal.throwIfAborted();
    live.machine.context.log.info(
      { machine: live.machine.name, err: error },
      "the agent did not freeze the file systems",
    );
    return false;
  }
}

/** False where the agent does not say that nothing is frozen any more. Nothing happens where there is none. */
export async function thawFileSystems(live: LiveMachine): Promise<boolean> {
  for (let tried = 1; ; tried += 1) {
    try {
      await live.agent.thaw({ timeoutMs: thawLimitMs });
      return true;
    } catch (error) {
      // It is there, and knows no such thing.
      if ((error as { code?: string }).code === "AGENT_ERROR") return true;
      if (tried < thawTries && live.alive) continue;
      live.machine.context.log.warn(
        { machine: live.machine.name, err: error },
        "the agent did not thaw the file systems",
      );
      return false;
    }
  }
}

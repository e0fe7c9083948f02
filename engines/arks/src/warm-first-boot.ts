import { setTimeout as sleep } from "node:timers/promises";
import type { Work } from "@skep/base";
import { guestRun, type LiveMachine } from "@skep/machines";

/** Of a guest that has to start several programs, all of it emulated. */
const limitMs = 300_000;
const agentLimitMs = 60_000;
const pollMs = 200;
const flag = "/run/skep/first-boot";

/**
 * What a boot does with a new seed, for a system that is up: cloud-init's stages for the new instance, one after the
 * other, as units would. Without the id in /run it trusts nothing that it knows of the old one. Host keys stay: those
 * of the copy are its own already; the setting for that lies in /run, too, so that no later instance has it. The flag
 * tells that all is done which a boot does before it lets anybody in.
 */
const script = `mkdir -p /run/skep /run/cloud-init
rm -f ${flag} /run/cloud-init/.instance-id
echo 'ssh_deletekeys: false' >>/run/cloud-init/cloud.cfg
cloud-init init --local
cloud-init init
: >${flag}
cloud-init modules --mode=config
cloud-init modules --mode=final`;

/** In a unit of its own: the agent may be restarted by what is installed. */
const command = [
  ...["systemd-run", "--quiet", "--collect", "--no-block", "--unit=skep-first-boot"],
  ...["--property=StandardOutput=journal+console", "--property=StandardError=inherit"],
  ...["/bin/sh", "-c", script],
];

/** Begins a guest's first boot as far as its seed wants it, and waits until it is so far that people may come in. */
export async function runFirstBoot(live: LiveMachine, work: Work): Promise<void> {
  const { name } = live.machine;
  work.report({ phase: `applying the user-data of ${name}` });
  const signal = AbortSignal.any([work.signal, AbortSignal.timeout(limitMs)]);
  try {
    const { status, output } = await guestRun(live.agent, command, { timeoutMs: agentLimitMs, signal });
    if (status !== 0) throw new Error(`its user-data could not be applied: ${output.split("\n")[0]}`);
    for (;;) {
      const [there] = await live.helper.exchange([{ verb: "has", path: flag }], { signal });
      if (there?.outcome === "done") return;
      await sleep(pollMs, undefined, { signal });
    }
  } catch (error) {
    work.signal.throwIfAborted();
    if (!signal.aborted) throw error;
    throw new Error(`its user-data was not applied within ${limitMs / 1000} s`, { cause: error });
  }
}

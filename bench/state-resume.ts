/** Suspend and resume, of 1 GiB and of 4. */
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { Machine } from "@skep/api/schemas";
import { agentAnswers } from "./state-agent.ts";
import { inTurns, type Part, type Samples } from "./state-report.ts";
import { pairOf } from "./state-source.ts";
import { removeShared, type World } from "./state-world.ts";

type Add = (name: string, value: number) => void;

const answerLimitMs = 60_000;

export async function benchResume(world: World): Promise<Part> {
  const { web, script } = await pairOf(world);
  const large = await world.guest("large", 4096);
  const samples = await inTurns(world.rounds.all, [
    (add) => skepSide(world, web, "1 GiB", add),
    (add) => scriptSide(world, script, add),
    (add) => skepSide(world, large, "4 GiB", add),
  ]);
  await world.skep("rm", "--force", "large");
  return { title: "suspend and resume, an idle Debian guest", rows: rowsOf(samples) };
}

function rowsOf(samples: Samples) {
  const stored = `${samples.median("1 GiB stored").toFixed(0)} MiB stored, script ${samples.median("script stored").toFixed(0)}`;
  return [
    samples.row("suspend, from the command to its end", "1 GiB suspend", "script suspend", {
      limit: 1500,
      note: stored,
    }),
    ...(["kept", "unpacked"] as const).flatMap((how) => {
      const names = { kept: "memory kept on tmpfs", unpacked: "memory unpacked" };
      const large = samples.median(`4 GiB ${how} agent`);
      const small = samples.median(`1 GiB ${how} agent`);
      return [
        samples.row(
          `resume, ${names[how]}, to the agent's answer`,
          `1 GiB ${how} agent`,
          `script ${how} agent`,
          {
            limit: how === "kept" ? 300 : 500,
            ratioLimit: 1.25,
          },
        ),
        samples.row("… to the command's end", `1 GiB ${how} end`, `script ${how} end`),
        samples.row("… 4 GiB, to the agent's answer", `4 GiB ${how} agent`, undefined, {
          other: { name: "1 GiB", value: small },
          ratioLimit: 1.15,
          note: `${(large - small).toFixed(0)} ms more`,
        }),
      ];
    }),
  ];
}

async function skepSide(world: World, { name, id }: Machine, size: string, add: Add): Promise<void> {
  const agent = join(world.runtimeOf({ id }), "agent.sock");
  for (const how of ["kept", "unpacked"] as const) {
    await sleep(world.idleMs);
    const { ms } = await world.skep("suspend", name);
    add(`${size} suspend`, ms);
    const { suspended } = await world.machine(name);
    const { state = "", storedBytes = Number.NaN } = suspended ?? {};
    add(`${size} stored`, storedBytes / 2 ** 20);
    // What is on tmpfs may be gone at any time; the state on disk is what counts.
    if (how === "unpacked") await removeShared((entry) => entry.endsWith(state));
    const resume = () => world.skep("resume", name);
    const { answerMs, endMs } = await answered(agent, resume);
    add(`${size} ${how} agent`, answerMs);
    add(`${size} ${how} end`, endMs);
  }
}

async function scriptSide(world: World, directory: string, add: Add): Promise<void> {
  for (const [how, from] of [
    ["kept", "kept"],
    ["unpacked", "packed"],
  ] as const) {
    await sleep(world.idleMs);
    const { wallMs, storedBytes } = await world.script<{ storedBytes: number }>("suspend", directory);
    add("script suspend", wallMs);
    add("script stored", storedBytes / 2 ** 20);
    const resume = () => world.script("resume", directory, from);
    const { answerMs, endMs } = await answered(join(directory, "agent.sock"), resume);
    add(`script ${how} agent`, answerMs);
    add(`script ${how} end`, endMs);
  }
}

/** How long a command takes until the agent behind a socket answers, and until its end. */
async function answered(
  socket: string,
  command: () => Promise<unknown>,
): Promise<{ answerMs: number; endMs: number }> {
  const started = performance.now();
  const failed = new AbortController();
  const signal = AbortSignal.any([failed.signal, AbortSignal.timeout(answerLimitMs)]);
  const answer = agentAnswers(socket, signal);
  answer.catch(() => undefined);
  try {
    await command();
    const endMs = performance.now() - started;
    return { answerMs: (await answer) - started, endMs };
  } finally {
    failed.abort();
  }
}

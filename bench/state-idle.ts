/** The first connection to a machine that sleeps because nobody used it. */
import { setTimeout as sleep } from "node:timers/promises";
import { timed } from "./measure.ts";
import type { Login } from "./ssh.ts";
import { loginOf } from "./state-new.ts";
import { inTurns, type Part } from "./state-report.ts";
import { pairOf } from "./state-source.ts";
import type { World } from "./state-world.ts";

const afterSeconds = 5;
const sleepLimitMs = 300_000;

export async function benchIdle(world: World): Promise<Part> {
  const login = loginOf(world, (await pairOf(world)).web);
  const samples = await inTurns(world.rounds.all, [
    async (add) => {
      await world.skep("edit", "web", "--suspend-after", `${afterSeconds}s`);
      await untilAsleep(world);
      add("first", await loginMs(login));
      await world.skep("edit", "web", "--suspend-after", "off");
      await sleep(world.idleMs);
      add("next", await loginMs(login));
    },
    async (add) => {
      await world.skep("suspend", "web");
      await world.skep("resume", "web");
      add("resumed", await loginMs(login));
    },
  ]);
  const first = samples.median("first");
  const more = (than: string) => first - samples.median(than);
  return {
    title: "ssh to a machine that sleeps because nobody used it",
    rows: [
      samples.row("first connection, to the end of `ssh web true`", "first", undefined, {
        other: { name: "resumed", value: samples.median("resumed") },
        note: "resumed: ssh when `skep resume` has just ended",
      }),
      {
        what: "… what waking it adds to that",
        unit: "ms",
        skep: more("resumed"),
        of: world.rounds.all,
        limit: 500,
      },
      { what: "… and to one some seconds later", unit: "ms", skep: more("next"), of: world.rounds.all },
    ],
  };
}

async function untilAsleep(world: World): Promise<void> {
  for (const until = performance.now() + sleepLimitMs; ; await sleep(500)) {
    const { state, idle } = await world.machine("web");
    if (state === "suspended") return;
    if (performance.now() > until) throw new Error(`it does not go to sleep: ${JSON.stringify(idle)}`);
  }
}

/** One connection and no second try. */
async function loginMs(login: Login): Promise<number> {
  return (await timed(["ssh", ...login.words, "true"], process.env)).ms;
}

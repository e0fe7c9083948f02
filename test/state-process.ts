/** A control process of its own, to be killed: machines and states of one home, asked over IPC. */

import { hash } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import {
  type Frozen,
  FrozenMachines,
  freezeMachine,
  layersOfSnapshots,
  layersOfTemplates,
  openStates,
  removeState,
  type States,
  statesOfSnapshots,
} from "@skep/arks";
import { quietWork, toSkepError } from "@skep/base";
import { ImageStore } from "@skep/images";
import { type LiveMachine, Machines } from "@skep/machines";
import { guestSh } from "./guest-sh.ts";

/** Of the machine web, or of the one that is named. */
export type Asked = { machine?: string } & (
  | { verb: "suspend"; killAt?: KillAt; fill?: string }
  | { verb: "resume"; cold?: boolean; hooks?: boolean; killAt?: KillAt }
  | { verb: "freeze"; killAt?: KillAt; failAt?: string; compare?: boolean }
  | { verb: "give back" }
  | { verb: "fork"; copy: string }
  | { verb: "fork-many"; count: number; killAt?: KillAt }
  | { verb: "create" | "get" | "close" | "start" | "stop" | "remove" | "snapshots" | "list" }
  | { verb: "snapshot"; snapshot?: string; memory?: boolean; killAt?: KillAt }
  | { verb: "restore"; snapshot: string; discard?: boolean; cold?: boolean; killAt?: KillAt; bar?: string }
  | { verb: "remove-snapshot"; snapshot: string; killAt?: KillAt }
  | { verb: "exec"; script: string }
  | { verb: "template" | "begin"; killAt?: KillAt }
  | { verb: "templates" }
  | { verb: "remove-template"; id: string }
  | { verb: "balloon"; bytes: number }
  | { verb: "recover job"; kind: string; request: unknown; askedAt: string }
);

/** What a freeze was, and the digests of the guest's memory at that instant, where asked for, and of the frozen file. */
export interface FreezeAnswer {
  id: string;
  pauseMs: number;
  populatedMiB: number;
  layers: unknown;
  memory: string | undefined;
  frozen: string;
}

/** What dies by SIGKILL `afterMs` after a point was reached; the verb goes on meanwhile. A copy is the first of several. */
export interface KillAt {
  what: "control" | "qemu" | "copy";
  point: string;
  afterMs: number;
}

export interface Answer {
  result?: unknown;
  error?: { code: string; message: string };
}

const fillBytes = 72 * 1024 ** 2;
const [home, runtime] = process.argv.slice(2) as [string, string];
const loud = (fields: object, message: string) =>
  console.error(message, (fields as { err?: unknown }).err ?? "");
const log = { debug() {}, info() {}, warn: loud, error: loud };
let name = "web";
let killAt: KillAt | undefined;
let failAt: string | undefined;
/** A file that takes all the room of its disk once the guest stands still. */
let fill: string | undefined;
/** A file that cannot be written any more once QEMU has ended for a restore: it is `bar.aside`. */
let bar: string | undefined;

/** What machines are brought in order before it is there does without. */
let opened: States | undefined;
const machines = await Machines.open({
  home,
  runtime,
  images: new ImageStore({ home }),
  discardState: (id) => removeState(home, id),
  basesElsewhere: async () => [...(await layersOfSnapshots(home)), ...(await layersOfTemplates(home))],
  statesElsewhere: (machine) => statesOfSnapshots(home, machine),
  frozenUnused: async (id) => await opened?.frozenUnused(id),
  startWarm: async (machine, work) => (await opened?.templates.startWarm(machine, work)) ?? false,
  log,
  onEvent() {},
});

const frozen = new FrozenMachines({
  home,
  borrowed: () => machines.borrowed(),
  admit: (machine, bytes) => machines.admitFrozen(machine, bytes),
  log,
});
/** What was frozen and not given back. */
const had: Frozen[] = [];

async function reach(point: string): Promise<void> {
  if (failAt === point) {
    failAt = undefined;
    throw new Error(`it fails at ${point}`);
  }
  if (point === "stopped" && fill !== undefined) {
    await writeFile(fill, Buffer.alloc(fillBytes)).catch(() => undefined); // as much as goes in
    fill = undefined;
  }
  if (point === "ended" && bar !== undefined) {
    await rename(bar, `${bar}.aside`);
    await mkdir(join(bar, "full"), { recursive: true });
    bar = undefined;
  }
  if (killAt?.point !== point) return;
  const { what, afterMs } = killAt;
  killAt = undefined;
  const pid = what === "control" ? process.pid : machines.get(what === "copy" ? `${name}-1` : name).pid;
  if (pid === null) return;
  const kill = () => {
    try {
      process.kill(pid, "SIGKILL");
    } catch {
      // it has ended already
    }
  };
  if (afterMs > 0) {
    setTimeout(kill, afterMs);
    return;
  }
  kill();
  // A busy machine takes its time to end it.
  while (existsSync(`/proc/${pid}`)) await new Promise((resolve) => setTimeout(resolve, 5));
}

const states = await openStates({ home, machines, log, reach });
opened = states;
await states.recover();

/** What the machine's own firmware and screen have there is no memory of the guest. */
const legacy = { start: 0xa_0000, end: 0x10_0000 };

function digestOf(memory: Buffer): string {
  memory.fill(0, legacy.start, legacy.end);
  return hash("sha256", memory, "hex");
}

/** As the guest sees it, said by QEMU itself. */
async function memoryOf(live: LiveMachine): Promise<string> {
  const path = join(live.machine.runtime.qemu, "memory");
  const size = live.machine.file.memoryMiB * 1024 ** 2;
  await live.qmp.execute("pmemsave", { val: 0, size, filename: path });
  const memory = await readFile(path);
  await rm(path);
  return digestOf(memory);
}

async function freeze(compare: boolean): Promise<FreezeAnswer> {
  return await machines.withMachine(name, async (machine) => {
    const live = machine.running();
    let memory: string | undefined;
    const made = await freezeMachine(live, {
      frozen,
      work: quietWork(),
      disks: true,
      reach: async (point) => {
        if (point === "freeze-disks" && compare) memory = await memoryOf(live);
        await reach(point);
      },
    });
    had.push(made.frozen);
    const { id, ramPath } = made.frozen;
    const { pauseMs, populatedMiB, layers } = made;
    return { id, pauseMs, populatedMiB, layers, memory, frozen: digestOf(await readFile(ramPath)) };
  });
}

async function answer(asked: Asked): Promise<unknown> {
  const work = quietWork();
  name = asked.machine ?? "web";
  switch (asked.verb) {
    case "create":
      return await machines.create(
        {
          name,
          image: "tiny",
          memoryMiB: 96,
          cpus: 1,
          // On a host that is busy with other tests, a guest's first look at its timer may find it standing.
          kernelArguments: "no_timer_check",
          dataDisks: [{ sizeBytes: 16 * 1024 ** 2 }],
          start: true,
          wait: true,
        },
        work,
      );
    case "suspend":
      killAt = asked.killAt;
      fill = asked.fill;
      return await states.suspend(name, {}, work);
    case "resume":
      killAt = asked.killAt;
      return await states.resume(name, { cold: asked.cold ?? false, hooks: asked.hooks ?? true }, work);
    case "freeze":
      killAt = asked.killAt;
      failAt = asked.failAt;
      return await freeze(asked.compare ?? false);
    case "give back":
      for (const one of had.splice(0)) await one[Symbol.asyncDispose]();
      return undefined;
    case "fork":
      return await states.fork(name, { name: asked.copy, identity: false, force: true }, work);
    case "start":
      return await machines.start(name, { wait: true }, work);
    case "stop":
      return await machines.stop(name, { force: true }, work);
    case "remove":
      return await machines.remove(name, { force: true }, work);
    case "snapshot":
      killAt = asked.killAt;
      return await states.snapshots.create(
        name,
        { ...(asked.snapshot === undefined ? {} : { name: asked.snapshot }), memory: asked.memory ?? true },
        work,
      );
    case "restore":
      killAt = asked.killAt;
      bar = asked.bar;
      return await states.snapshots.restore(
        name,
        asked.snapshot,
        { discard: asked.discard ?? true, cold: asked.cold ?? false, wait: true },
        work,
      );
    case "remove-snapshot":
      killAt = asked.killAt;
      return await states.snapshots.remove(name, asked.snapshot, work);
    case "snapshots":
      return await states.snapshots.list(name);
    case "fork-many":
      killAt = asked.killAt;
      return await states.fork(name, { count: asked.count }, work);
    case "template":
      killAt = asked.killAt;
      return await states.templates.build({ image: "tiny", memoryMiB: 96, cpus: 1 }, work);
    case "begin":
      killAt = asked.killAt;
      return await machines.create(
        { name, image: "tiny", memoryMiB: 96, cpus: 1, start: true, wait: true },
        work,
      );
    case "templates":
      return await states.templates.list();
    case "remove-template":
      return await states.templates.remove(asked.id);
    case "list":
      return machines.list().map((machine) => machine.name);
    case "balloon":
      return await machines.withMachine(name, (machine) =>
        machine.running().qmp.hmp(`balloon ${asked.bytes / 1024 ** 2}`),
      );
    case "recover job":
      return await states.recoverJob(asked.kind, name, asked.request, asked.askedAt);
    case "get":
      return machines.get(name);
    case "close":
      await machines.close();
      return undefined;
    case "exec":
      return await guestSh(machines, name, asked.script);
  }
}

process.on("message", (asked: Asked) => {
  answer(asked).then(
    (result) => process.send?.({ result } satisfies Answer),
    (error: unknown) => {
      const { code, message } = toSkepError(error);
      process.send?.({ error: { code, message } } satisfies Answer);
    },
  );
});
process.on("disconnect", () => process.exit());
process.send?.({} satisfies Answer);

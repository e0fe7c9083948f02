/** A control process of its own, to be killed: machines and states of one home, asked over IPC. */
import { writeFile } from "node:fs/promises";
import { text } from "node:stream/consumers";
import { openStates, removeState } from "@skep/arks";
import { quietWork, toSkepError } from "@skep/base";
import { ImageStore } from "@skep/images";
import { Machines } from "@skep/machines";

export type Asked =
  | { verb: "suspend" | "resume"; cold?: boolean; killAt?: KillAt; fill?: string }
  | { verb: "create" | "get" | "close" | "start" | "stop" | "remove" }
  | { verb: "exec"; script: string };

/** What dies by SIGKILL `afterMs` after a point was reached; the verb goes on meanwhile. */
export interface KillAt {
  what: "control" | "qemu";
  point: string;
  afterMs: number;
}

export interface Answer {
  result?: unknown;
  error?: { code: string; message: string };
}

const name = "web";
const fillBytes = 72 * 1024 ** 2;
const [home, runtime] = process.argv.slice(2) as [string, string];
const loud = (fields: object, message: string) =>
  console.error(message, (fields as { err?: unknown }).err ?? "");
const log = { debug() {}, info() {}, warn: loud, error: loud };
let killAt: KillAt | undefined;
/** A file that takes all the room of its disk once the guest stands still. */
let fill: string | undefined;

const machines = await Machines.open({
  home,
  runtime,
  images: new ImageStore({ home }),
  discardState: (id) => removeState(home, id),
  log,
  onEvent() {},
});

async function reach(point: string): Promise<void> {
  if (point === "stopped" && fill !== undefined) {
    await writeFile(fill, Buffer.alloc(fillBytes)).catch(() => undefined); // as much as goes in
    fill = undefined;
  }
  if (killAt?.point !== point) return;
  const { what, afterMs } = killAt;
  killAt = undefined;
  const pid = what === "control" ? process.pid : (machines.get(name).pid as number);
  const kill = () => {
    try {
      process.kill(pid, "SIGKILL");
    } catch {
      // it has ended already
    }
  };
  if (afterMs > 0) setTimeout(kill, afterMs);
  else kill();
}

const states = await openStates({ home, machines, log, reach });
await states.recover();

async function answer(asked: Asked): Promise<unknown> {
  const work = quietWork();
  switch (asked.verb) {
    case "create":
      return await machines.create(
        {
          name,
          image: "tiny",
          memoryMiB: 96,
          cpus: 1,
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
      return await states.resume(name, { cold: asked.cold ?? false }, work);
    case "start":
      return await machines.start(name, { wait: true }, work);
    case "stop":
      return await machines.stop(name, { force: true }, work);
    case "remove":
      return await machines.remove(name, { force: true }, work);
    case "get":
      return machines.get(name);
    case "close":
      await machines.close();
      return undefined;
    case "exec": {
      const session = await machines.exec(name, { command: ["sh", "-c", asked.script] });
      session.stdin.end();
      const [output, errors, status] = await Promise.all([
        text(session.stdout),
        text(session.stderr),
        session.exit,
      ]);
      if (status !== 0) throw new Error(`${asked.script}: ${errors}`);
      return output.trim();
    }
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

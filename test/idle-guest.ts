import assert from "node:assert/strict";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { get } from "node:http";
import { connect } from "node:net";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import type { Machine } from "@skep/api";
import { freePort } from "@skep/base/testing";
import { eventually, Installation, type Result } from "./support.ts";

/** The count is always as long: cut off under the server's hands, an answer would end too early, as if it was reset. */
const marks = `
  echo nonce >/tmp/nonce; mkdir -p /www; echo yes >/www/ok; httpd -p 80 -h /www
  (i=1000000; while :; do i=$((i + 1)); echo $i 1<>/www/count; sleep 1; done) >/dev/null 2>&1 &
`;

/** A tiny machine `web` that serves files and counts, for tests of what becomes of it while nobody uses it. */
export class IdleGuest implements AsyncDisposable {
  readonly skep: Installation;
  /** Forwarded to the guest's web server: one that its user has chosen, and one that skep has. */
  readonly chosen: number;
  given = 0;
  counted = 0;

  private constructor(skep: Installation, chosen: number) {
    this.skep = skep;
    this.chosen = chosen;
  }

  static async make(): Promise<IdleGuest> {
    const guest = new IdleGuest(await Installation.make(), await freePort());
    await guest.skep.skep([
      ...["new", "web", "--image", "tiny", "--memory", "96M", "--cpus", "1"],
      // On a host that is busy with other tests, a guest's first look at its timer may find it standing.
      ...["--kernel-args", "no_timer_check", "-p", `${guest.chosen}:80`, "-p", "0:80", "--start", "--wait"],
    ]);
    const { ports } = await guest.skep.machine("web");
    guest.given = ports.find(({ automatic }) => automatic)?.hostPort as number;
    await guest.sh(marks);
    return guest;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.skep[Symbol.asyncDispose]();
  }

  async sh(script: string): Promise<string> {
    return (await this.skep.skep(["exec", "web", "--", "sh", "-c", script])).stdout.trim();
  }

  /** Over the forward, by one connection, which comes to its end whatever the machine was. */
  async fetchFile(path: string, port = this.chosen): Promise<string> {
    const request = get({ host: "127.0.0.1", port, path, agent: false });
    const [answer] = await once(request, "response");
    return (await text(answer)).trim();
  }

  /** It goes on where it was, and was not booted. */
  async checkCount(port = this.chosen): Promise<void> {
    const count = Number(await this.fetchFile("/count", port));
    assert.ok(count >= this.counted, `counted ${count} after ${this.counted}`);
    this.counted = count;
  }

  async edit(...args: string[]): Promise<Result> {
    return await this.skep.skep(["edit", "web", ...args]);
  }

  async asleep(): Promise<Machine> {
    const isAsleep = ({ state, suspended }: Machine) => state === "suspended" && suspended?.idle === true;
    return await this.skep.until("web", isAsleep, "idle");
  }

  async wakes(): Promise<number> {
    return (await readFile(join(this.skep.home, "skepd.log"), "utf8")).split('"msg":"waking"').length - 1;
  }
}

/** Nobody listens there; a process that was killed may do so for a moment more. */
export async function refused(port: number): Promise<void> {
  await eventually(
    async () => {
      const socket = connect(port, "127.0.0.1");
      try {
        await once(socket, "connect");
        return false;
      } catch (error) {
        return (error as NodeJS.ErrnoException).code === "ECONNREFUSED";
      } finally {
        // Otherwise it is reset when a killed process is gone at last, and nobody listens to that.
        socket.destroy();
      }
    },
    () => `somebody listens on port ${port}`,
  );
}
